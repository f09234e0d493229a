"""The official SNLI-VE files, their three spellings of the image id, labels that are none, and bad lines."""

import hashlib
import json
import pickle

import pytest
from PIL import Image

from tasks.snli_ve.data import SnliVeDataset, read_corrected_labels
from tasks.snli_ve.labels import LABELS
from tasks.snli_ve.settings import SnliVeSplit, training_sets

pytestmark = pytest.mark.usefixtures("own_cache")


def line(number, label="entailment", id_key="Flickr30K_ID", **changes):
    item = {
        id_key: str(200 + number // 3),
        "annotator_labels": [label],
        "captionID": f"{200 + number // 3}.jpg#0",
        "gold_label": label,
        "pairID": f"{200 + number // 3}.jpg#0r{number}",
        "sentence1": "a caption, which is not an input",
        "sentence2": f"hypothesis {number}",
    } | changes
    return {key: value for key, value in item.items() if value is not None}


def write(root, lines, split="dev"):
    (root / "flickr30k_images").mkdir(parents=True, exist_ok=True)
    for item in lines:
        name = next(
            (item[key] for key in ("Flickr30K_ID", "Flikr30kID", "Flickr30kID") if key in item), "none"
        )
        Image.new("RGB", (30, 20)).save(root / "flickr30k_images" / f"{str(name).removesuffix('.jpg')}.jpg")
    (root / f"snli_ve_{split}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in lines))
    return root


@pytest.mark.parametrize("id_key", ["Flickr30K_ID", "Flikr30kID", "Flickr30kID"])
def test_a_pair_is_read_by_each_spelling_of_the_image_id(tmp_path, id_key):
    root = write(tmp_path, [line(n, LABELS[n % 3], id_key) for n in range(6)])
    dataset = SnliVeDataset.from_root(root, "dev")
    assert [example.label for example in dataset] == [0, 1, 2, 0, 1, 2]
    example = dataset[4]
    assert (example.pair_id, example.image_key, example.hypothesis) == (
        "201.jpg#0r4",
        "201.jpg",
        "hypothesis 4",
    )
    assert example.image().size == (30, 20)
    assert pickle.loads(pickle.dumps(dataset))[4] == example


def test_image_ids_may_be_numbers_or_file_names(tmp_path):
    root = write(tmp_path, [line(0, Flickr30K_ID=17), line(1, Flickr30K_ID="18.jpg")])
    assert SnliVeDataset.from_root(root, "dev").column("image_id") == ["17", "18"]


def test_pairs_without_agreement_are_left_out_and_counted(tmp_path):
    root = write(
        tmp_path, [line(0), line(1, "-"), line(2, "neutral"), line(3, "-"), line(4, "contradiction")]
    )
    dataset = SnliVeDataset.from_root(root, "dev")
    assert (len(dataset), dataset.without_label) == (3, 2)
    assert dataset.column("label") == ["entailment", "neutral", "contradiction"]
    assert SnliVeDataset.from_root(root, "dev", indices=[2, 1]).column("hypothesis") == [
        "hypothesis 4",
        "hypothesis 2",
    ]
    write(root, [line(0, "-")], "test")
    with pytest.raises(ValueError, match="every label is '-'"):
        SnliVeDataset.from_root(root, "test")


@pytest.mark.parametrize("separator", [",", "\t"])
def test_corrected_labels_take_the_place_of_the_files(tmp_path, separator):
    root = write(tmp_path, [line(0), line(1, "-"), line(2, "neutral")])
    corrections = tmp_path / "corrected"
    rows = [
        ("pairID", "gold_label"),
        ("200.jpg#0r2", "contradiction"),
        ("200.jpg#0r1", "neutral"),
        ("other", "neutral"),
    ]
    corrections.write_text("".join(separator.join(row) + "\n" for row in rows))
    dataset = SnliVeDataset.from_root(root, "dev", corrected_labels=corrections)
    assert dataset.column("label") == ["entailment", "neutral", "contradiction"]
    assert (dataset.corrected, dataset.without_label) == (2, 0)
    corrections.write_text("pairID,label\n200.jpg#0r2,maybe\n")
    with pytest.raises(ValueError, match="corrected:2: label is 'maybe', expected entailment"):
        read_corrected_labels(corrections)
    corrections.write_text("id,label\n")
    with pytest.raises(ValueError, match="expected pairID and gold_label"):
        read_corrected_labels(corrections)


def test_files_without_labels_can_be_read(tmp_path):
    root = write(tmp_path, [line(0, gold_label=None)])
    assert SnliVeDataset.from_root(root, "dev")[0].label is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line(1, "maybe"), r"dev\.jsonl:2: gold_label is 'maybe', expected entailment"),
        (line(1, sentence2=""), r"dev\.jsonl:2: sentence2 is '', expected a text"),
        (line(1, pairID=None), r"dev\.jsonl:2: pairID is None"),
        (line(1, Flickr30K_ID=None), r"dev\.jsonl:2: no image id; expected one of the keys Flickr30K_ID"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path, bad, message):
    root = write(tmp_path, [line(0), bad, line(2)])
    with pytest.raises(ValueError, match=message):
        SnliVeDataset.from_root(root, "dev")
    with pytest.warns(UserWarning, match="1 samples skipped, 2 kept"):
        dataset = SnliVeDataset.from_root(root, "dev", on_bad_sample="skip")
    assert dataset.column("hypothesis") == ["hypothesis 0", "hypothesis 2"]


def test_a_line_that_is_no_json_is_named_or_left_out(tmp_path):
    root = write(tmp_path, [line(0), line(1)])
    path = root / "snli_ve_dev.jsonl"
    path.write_text('{"pairID": "x\n' + path.read_text())
    with pytest.raises(ValueError, match=r"dev\.jsonl:1: not JSON"):
        SnliVeDataset.from_root(root, "dev")
    with pytest.warns(UserWarning, match="1 samples skipped, 2 kept"):
        assert len(SnliVeDataset.from_root(root, "dev", on_bad_sample="skip")) == 2


def test_missing_images_are_named_or_left_out(tmp_path):
    root = write(tmp_path, [line(n) for n in range(6)])
    (root / "flickr30k_images" / "200.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"dev\.jsonl:2, pairID '200\.jpg#0r1': image .*200\.jpg is missing"
    ):
        SnliVeDataset.from_root(root, "dev")[1].image()
    with pytest.warns(UserWarning, match="3 samples skipped, 3 kept"):
        SnliVeDataset.from_root(root, "dev", on_bad_sample="skip")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"snli_ve_dev\.jsonl does not exist; expected snli_ve_"):
        SnliVeDataset.from_root(tmp_path, "dev")
    root = write(tmp_path, [line(0)])
    with pytest.raises(ValueError, match=r"indices holds 1, but .* has 1 items"):
        SnliVeDataset.from_root(root, "dev", indices=[1])
    (root / "flickr30k_images" / "200.jpg").unlink()
    (root / "flickr30k_images").rmdir()
    with pytest.raises(FileNotFoundError, match="flickr30k_images is not a folder"):
        SnliVeDataset.from_root(root, "dev")


def test_a_pair_has_the_same_name_in_every_part_of_its_file(tmp_path):
    root = write(tmp_path, [line(n // 2, LABELS[n % 3], Flickr30K_ID=n) for n in range(12)], "train")
    whole = SnliVeDataset.from_root(root, "train").unique_ids()
    assert whole[:4] == ["200.jpg#0r0", "200.jpg#0r0 (2)", "200.jpg#0r1", "200.jpg#0r1 (2)"]
    split = SnliVeSplit(data_root=root, validation_items=4)
    labelled, held_out, description = training_sets(split, seed=0)
    assert sorted(labelled.unique_ids() + held_out.unique_ids()) == sorted(whole)
    for part, name in (
        (labelled, "training_hash"),
        (held_out, "validation_hash"),
    ):  # the hash is of these names
        digest = hashlib.sha256("\n".join(sorted(part.unique_ids())).encode()).hexdigest()
        assert description[name] == f"sha256:{digest[:16]}"
