"""iconworld's VQA and SNLI-VE: official files that the readers take, true answers, priors that shift."""

import json
from collections import Counter

import numpy as np
import pytest

from tasks.batches.proposals import FileProposals
from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.files.vqa import VqaSizes, write_vqa
from tasks.iconworld.scenes import COLOUR_NAMES
from tasks.snli_ve.data import SnliVeDataset
from tasks.snli_ve.hard import write_hard
from tasks.vqa.data import VqaDataset
from tasks.vqa.metric import answer_accuracy

pytestmark = pytest.mark.usefixtures("own_cache")
VQA = VqaSizes(train=600, val=300, cp_test=600, shifted=60, test=30)


@pytest.fixture(scope="module")
def vqa(tmp_path_factory):
    return write_vqa(tmp_path_factory.mktemp("vqa"), sizes=VQA)


@pytest.fixture(scope="module")
def snli_ve(tmp_path_factory):
    return write_snli_ve(tmp_path_factory.mktemp("snli_ve"), sizes=SnliVeSizes(1200, 120, 600, 60))


def test_the_reader_takes_every_vqa_split(vqa):
    counts = {"train": 600, "val": 300, "cp_train": 600, "cp_test": 600, "shifted2014": 60, "test": 30}
    boxes = FileProposals(vqa / "proposals.jsonl")
    for split, count in counts.items():
        dataset = VqaDataset.from_root(vqa, split, proposals=boxes)
        assert len(dataset) == count
        assert dataset[0].image().size == dataset[0].size == (64, 64)
        assert 2 <= len(dataset[0].boxes) <= 4
    assert dataset[0].answers is None


def test_the_most_frequent_answer_is_the_true_one_and_some_annotators_err(vqa):
    dataset = VqaDataset.from_root(vqa, "train")
    scores = [
        answer_accuracy(answer, told)
        for answer, told in zip(dataset.column("answer"), dataset.column("answers"), strict=True)
    ]
    assert np.mean(scores) > 0.98
    assert any(len(set(told)) > 1 for told in dataset.column("answers"))


def test_a_colour_that_is_asked_for_is_in_the_picture(vqa):
    """The box whose ink is nearest to the answered colour is very near to it."""
    from tasks.iconworld.scenes import COLOURS

    dataset = VqaDataset.from_root(vqa, "val", proposals=FileProposals(vqa / "proposals.jsonl"))
    asked = [k for k, kind in enumerate(dataset.column("question_type")) if kind == "what color is the"]
    for k in asked[:20]:
        example = dataset[k]
        pixels = np.asarray(example.image()).astype(float)
        distance = np.abs(pixels - np.array(COLOURS[example.answer])).sum(-1)
        assert (distance < 60).sum() > 10
    assert len(asked) > 20


def test_priors_are_turned_round_in_vqa_cp(vqa):
    shares = {}
    for split in ("train", "val", "cp_train", "cp_test"):
        dataset = VqaDataset.from_root(vqa, split)
        rows = Counter(zip(dataset.column("answer_type"), dataset.column("answer"), strict=True))
        yes, no = rows["yes/no", "yes"], rows["yes/no", "no"]
        colours = [rows["other", colour] for colour in COLOUR_NAMES]
        shares[split] = yes / (yes + no), sum(colours[:4]) / sum(colours)
    assert shares["train"] == shares["cp_train"]
    for split in ("train", "val"):
        assert shares[split][0] > 0.6
        assert shares[split][1] > 0.5
    assert shares["cp_test"][0] < 0.4
    assert shares["cp_test"][1] < 0.5


def test_snli_ve_has_three_labels_in_equal_parts_and_some_without(snli_ve):
    dataset = SnliVeDataset.from_root(snli_ve, "train")
    assert 0 < dataset.without_label < 80
    counts = Counter(dataset.column("label"))
    assert len(counts) == 3
    assert max(counts.values()) < 1.2 * min(counts.values())
    assert (
        len(SnliVeDataset.from_root(snli_ve, "shifted"))
        + SnliVeDataset.from_root(snli_ve, "shifted").without_label
        == 60
    )
    assert len(set(dataset.unique_ids())) == len(dataset)


def test_part_of_the_labels_can_be_guessed_and_the_hard_pairs_have_all_three(snli_ve, tmp_path):
    found = write_hard(
        snli_ve / "snli_ve_train.jsonl", snli_ve / "snli_ve_test.jsonl", tmp_path / "hard.jsonl"
    )
    assert 40 < found["accuracy_of_the_hypothesis_alone"] < 70
    labels = Counter(
        json.loads(line)["gold_label"] for line in (tmp_path / "hard.jsonl").read_text().splitlines()
    )
    assert min(labels.values()) > 0.15 * sum(labels.values())
    assert len(labels) == 3


def test_the_same_seed_gives_the_same_files_and_a_finished_folder_is_left_alone(snli_ve, tmp_path):
    sizes = SnliVeSizes(12, 6, 6, 6)
    one, two, other = (
        write_snli_ve(tmp_path / name, seed=seed, sizes=sizes)
        for name, seed in zip("abc", (3, 3, 4), strict=True)
    )
    text = (one / "snli_ve_train.jsonl").read_bytes()
    assert (two / "snli_ve_train.jsonl").read_bytes() == text
    assert (other / "snli_ve_train.jsonl").read_bytes() != text
    before = (one / "snli_ve_train.jsonl").stat().st_mtime_ns
    write_snli_ve(one, seed=3, sizes=sizes)
    assert (one / "snli_ve_train.jsonl").stat().st_mtime_ns == before
