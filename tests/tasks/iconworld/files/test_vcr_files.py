"""iconworld's VCR files: official format, honest answers, the textual shortcut."""

import json

import numpy as np
import pytest
from PIL import Image

from tasks.iconworld.files.vcr import VcrSizes, write_vcr
from tasks.iconworld.scenes import COLOURS
from tasks.vcr.data import VcrDataset
from tasks.vcr.shift import rule_plural, rule_singular

SIZES = VcrSizes(train=400, val=60, val_shifted=60, test=20)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_vcr(tmp_path_factory.mktemp("iconworld"), seed=3, sizes=SIZES)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_official_reader_reads_every_file(root):
    for split, count in vars(SIZES).items():
        tasks = "q_to_a" if split == "test" else "both"
        dataset = VcrDataset.from_root(root, split, classes=None, tasks=tasks)
        assert dataset.num_items == count
        for k in range(len(dataset)):
            example = dataset[k]
            assert example.image().size == (64, 64)
            assert len(example.boxes) == len(example.item.objects)
    telling = ("_label", "_orig", "_match_iter", "_sources")
    assert not [key for item in read(root / "test.jsonl") for key in item if key.endswith(telling)]
    keys = set(read(root / "val.jsonl")[0])
    assert {
        "movie",
        "objects",
        "question_orig",
        "answer_match_iter",
        "rationale_sources",
        "match_fold",
    } <= keys


def shown_phrases(root, item):
    """The "colour noun" of every object, read off the picture's pixels and the metadata."""
    pixels = np.asarray(Image.open(root / "vcr1images" / item["img_fn"])).astype(int)
    metadata = json.loads((root / "vcr1images" / item["metadata_fn"]).read_text())
    phrases = set()
    for name, (x1, y1, x2, y2, _) in zip(metadata["names"], metadata["boxes"], strict=True):
        inside = pixels[int(y1) : int(y2), int(x1) : int(x2)].reshape(-1, 3)
        strongest = inside[np.abs(inside - pixels[0, 0]).sum(1).argmax()]
        colour = min(COLOURS, key=lambda c: np.abs(np.array(COLOURS[c]) - strongest).sum())
        phrases.add(f"{colour} {name}")
    return phrases


def test_only_the_right_choice_is_true_of_the_picture(root):
    for item in read(root / "val.jsonl") + read(root / "val_shifted.jsonl"):
        shown = shown_phrases(root, item)
        for kind in ("answer", "rationale"):
            for k, choice in enumerate(item[f"{kind}_choices"]):
                text = " ".join(token for token in choice if isinstance(token, str))
                assert any(phrase in text for phrase in shown) == (k == item[f"{kind}_label"])


def tags(tokens):
    return {tag for token in tokens if isinstance(token, list) for tag in token}


def shared_more(item):
    """Whether the right answer shares more of the question's tags than the wrong ones do on average."""
    asked = tags(item["question"])
    shared = [len(asked & tags(choice)) / len(asked) for choice in item["answer_choices"]]
    right = shared.pop(item["answer_label"])
    return right > np.mean(shared)


def test_the_shortcut_holds_in_most_items_and_the_singular_rule_turns_it_around(root):
    items = read(root / "train.jsonl")
    assert 0.5 < np.mean([shared_more(item) for item in items]) < 0.8
    edited = [e for e in map(rule_singular, items) if e is not None]
    assert len(edited) > 0.6 * len(items)
    assert np.mean([shared_more(item) for item in edited]) < 0.1
    assert any(rule_plural(item) for item in items)


def test_shifted_families_are_unseen_and_every_picture_has_two_items(root):
    movies = {split: {item["movie"] for item in read(root / f"{split}.jsonl")} for split in vars(SIZES)}
    family = lambda movie: movie.removeprefix("val_shifted_").removeprefix("train_").rsplit("_", 1)[0]  # noqa: E731
    assert {family(m) for m in movies["val_shifted"]} == {"font_awesome", "lucide"}
    assert {family(m) for m in movies["train"]} == {"material", "phosphor", "remix", "boxicons"}
    images = [item["img_fn"] for item in read(root / "train.jsonl")]
    assert len(set(images)) == len(images) / 2


def test_the_same_seed_writes_the_same_bytes(root, tmp_path):
    again = write_vcr(tmp_path, seed=3, sizes=SIZES)
    files = sorted(p.relative_to(root) for p in root.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((root / f).read_bytes() == (again / f).read_bytes() for f in files)
    before = (again / "train.jsonl").stat().st_mtime_ns
    write_vcr(tmp_path, seed=3, sizes=SIZES)  # finished already
    assert (again / "train.jsonl").stat().st_mtime_ns == before
    other = write_vcr(tmp_path / "other", seed=4, sizes=SIZES)
    assert (other / "train.jsonl").read_bytes() != (root / "train.jsonl").read_bytes()
