"""The reader on official-format files, good and bad."""

import json
import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from tasks.vcr.data import VcrDataset
from tasks.vcr.items import parse_item
from tests.helpers.tiny_vcr import BOXES, SIZE, tiny_item, tiny_vcr, write_items


def test_examples_are_the_two_subtasks_of_each_item_in_turn(tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path, items=3), "val")
    assert len(dataset) == 6
    assert dataset.num_items == 3
    first, second = dataset[2], dataset[3]
    assert (first.item.annot_id, first.task, first.given, first.label) == ("val-1", "q_to_a", None, 1)
    assert (second.item.annot_id, second.task, second.given, second.label) == ("val-1", "qa_to_r", 1, 2)
    assert first.context == [first.item.question]
    assert first.choices == first.item.answer_choices
    assert second.context == [first.item.question, first.item.answer_choices[1]]
    assert second.choices == first.item.rationale_choices
    np.testing.assert_allclose(first.boxes, np.array(BOXES, dtype=np.float32)[:, :4])
    assert first.image().size == first.size == SIZE
    assert first.image().mode == "RGB"
    assert [item.annot_id for item in dataset.items()] == ["val-0", "val-1", "val-2"]
    assert dataset.column("answer_label") == [0, 1, 2]
    with pytest.raises(IndexError):
        dataset[6]


def test_one_subtask_some_indices_and_another_given_answer(tmp_path):
    tiny_vcr(tmp_path, items=4)
    dataset = VcrDataset.from_root(tmp_path, "val", tasks="qa_to_r", indices=[3, 1])
    assert [example.item.annot_id for example in dataset] == ["val-3", "val-1"]
    given = dataset.example(0, "qa_to_r", given=0)
    assert given.context[1] == given.item.answer_choices[0]
    assert given.label is None  # the rationales argue for another answer
    assert len(pickle.loads(pickle.dumps(dataset))) == 2  # travels to data loader workers


def test_test_files_have_no_labels(tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path, split="test", labels=False), "test", tasks="q_to_a")
    assert dataset[0].label is None
    assert dataset.example(0, "qa_to_r", given=3).label is None
    with pytest.raises(
        ValueError, match=r"test\.jsonl:1, annot_id 'test-0': no answer_label.*tasks='q_to_a'"
    ):
        dataset.example(0, "qa_to_r")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": ["Is", [3], "here"]}, "question mentions object 3, but the item has 3 objects"),
        ({"answer_choices": [["a"], ["b"], [[-1]], ["d"]]}, r"answer_choices\[2\] mentions object -1"),
        ({"rationale_choices": [["a"], [], ["c"], ["d"]]}, r"rationale_choices\[1\] is empty"),
        ({"answer_choices": [["a"], ["b"], ["c"], [" "]]}, r"answer_choices\[3\] is empty"),
        ({"question": "Is it?"}, "question is empty .*expected a list of words and object indices"),
        ({"question": ["Is", 3]}, "question holds 3, expected a string or a non-empty list"),
        ({"question": ["Is", []]}, r"question holds \[\], expected a string or a non-empty list"),
        ({"answer_choices": [["a"]] * 3}, "answer_choices holds 3 choices, expected 4"),
        ({"rationale_choices": {"a": 1}}, "rationale_choices holds .* choices, expected 4"),
        (
            {"objects": ["person", "dragon", "cup"]},
            r"objects\[1\] is the unknown label 'dragon'.*classes=None",
        ),
        ({"objects": "person"}, "objects is 'person', expected a list of class names"),
        ({"answer_label": 4}, "answer_label is 4, expected an integer from 0 to 3"),
        ({"rationale_label": "1"}, "rationale_label is '1', expected an integer from 0 to 3"),
        ({"question": None}, "no key 'question'; expected a line of VCR's"),
        ({"img_fn": 7}, "img_fn is 7, expected a non-empty string"),
    ],
)
def test_a_bad_line_is_named(tmp_path, changes, message):
    root = tiny_vcr(tmp_path)
    write_items(root / "val.jsonl", [tiny_item(0), tiny_item(1, **changes)])
    dataset = VcrDataset.from_root(root, "val", tasks="q_to_a")
    dataset[0]
    with pytest.raises(ValueError, match=rf"val\.jsonl:2, annot_id 'val-1': {message}"):
        dataset[1]


def test_an_item_is_an_object():
    with pytest.raises(ValueError, match=r"f:1: found a list, expected a VCR item"):
        parse_item([], "f:1")


def test_other_classes_are_allowed_on_request(tmp_path):
    root = tiny_vcr(tmp_path)
    write_items(root / "val.jsonl", [tiny_item(0, objects=["person", "person", "dragon"])])
    assert VcrDataset.from_root(root, "val", classes=None)[0].item.objects[2] == "dragon"


def test_a_truncated_line_is_named(tmp_path):
    root = tiny_vcr(tmp_path)
    lines = (root / "val.jsonl").read_text().splitlines()
    (root / "val.jsonl").write_text("\n".join([lines[0], lines[1][:50], lines[2]]) + "\n")
    dataset = VcrDataset.from_root(root, "val")
    with pytest.raises(ValueError, match=r"val\.jsonl:2"):
        dataset[2]


def change_metadata(root, **changes):
    path = root / "vcr1images" / "lsmdc_0001_Tiny" / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (
            [2, 4, 66, 40, 1],
            r"box 1 \(person\) is \[2.0, 4.0, 66.0, 40.0\], outside the image of 64 x 48 pixels",
        ),
        ([-3, 4, 20, 40, 1], r"box 1 .* outside the image .*clip_boxes=True"),
        ([20, 4, 20, 40, 1], "box 1 .* without area"),
    ],
)
def test_boxes_outside_the_image(tmp_path, box, message):
    root = tiny_vcr(tmp_path)
    change_metadata(root, boxes=[BOXES[0], box, BOXES[2]])
    with pytest.raises(ValueError, match=r"val\.jsonl:1, annot_id 'val-0': " + message):
        VcrDataset.from_root(root, "val")[0]
    clipped = VcrDataset.from_root(root, "val", clip_boxes=True)[0].boxes[1]
    assert (clipped[:2] >= 0).all()
    assert (clipped[2:] <= SIZE).all()
    assert (clipped[2:] > clipped[:2]).all()
    np.testing.assert_array_equal(VcrDataset.from_root(root, "val", check_boxes=False)[0].boxes[1], clipped)


def test_a_box_within_a_pixel_of_the_image_is_clipped_silently(tmp_path):
    root = tiny_vcr(tmp_path)
    change_metadata(root, boxes=[[-0.8, 0, 64.9, 48.5, 1], *BOXES[1:]])
    assert VcrDataset.from_root(root, "val")[0].boxes[0].tolist() == [0, 0, 64, 48]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": BOXES[:2]}, "has 2 boxes, but the item has 3 objects"),
        ({"boxes": None}, "is unreadable"),
        ({"boxes": [[1, 2], [1, 2], [1, 2]]}, "is unreadable"),
        ({"boxes": [[0, 0, float("nan"), 3]] * 3}, "is unreadable"),
        ({"width": "wide"}, "is unreadable"),
    ],
)
def test_bad_metadata_is_named(tmp_path, changes, message):
    root = tiny_vcr(tmp_path)
    change_metadata(root, **changes)
    with pytest.raises(ValueError, match=rf"annot_id 'val-0': metadata .*0\.json {message}"):
        VcrDataset.from_root(root, "val")[0]


def test_missing_files_are_named(tmp_path):
    root = tiny_vcr(tmp_path)
    images = root / "vcr1images" / "lsmdc_0001_Tiny"
    dataset = VcrDataset.from_root(root, "val", tasks="q_to_a")
    (images / "0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.jsonl:1, annot_id 'val-0': image .*0\.jpg is missing"):
        dataset[0].image()
    (images / "1.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"annot_id 'val-2': metadata .*1\.json is missing"):
        dataset[2]
    with pytest.raises(FileNotFoundError, match=r"train\.jsonl does not exist; expected .*vcr1images"):
        VcrDataset.from_root(root, "train")
    with pytest.raises(FileNotFoundError, match=r"images_root .* is not a folder"):
        VcrDataset(root / "val.jsonl", root / "nowhere")


def test_a_corrupt_image_is_named(tmp_path):
    root = tiny_vcr(tmp_path)
    path = root / "vcr1images" / "lsmdc_0001_Tiny" / "0.jpg"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ValueError, match=r"annot_id 'val-0': image .*0\.jpg is corrupt"):
        VcrDataset.from_root(root, "val")[0].image()
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"image .*0\.jpg is corrupt"):
        VcrDataset.from_root(root, "val")[0].image()


def test_an_image_of_another_size_is_named(tmp_path):
    root = tiny_vcr(tmp_path)
    Image.new("RGB", (10, 10)).save(root / "vcr1images" / "lsmdc_0001_Tiny" / "0.jpg")
    with pytest.raises(ValueError, match=r"is 10 x 10 pixels, its metadata says 64 x 48"):
        VcrDataset.from_root(root, "val")[0].image()


def test_skip_leaves_out_counts_and_lists_bad_samples(tmp_path):
    root = tiny_vcr(tmp_path, items=8)
    lines = [tiny_item(n) for n in range(8)]
    lines[3]["answer_label"] = 9
    write_items(root / "val.jsonl", lines)
    images = root / "vcr1images" / "lsmdc_0001_Tiny"
    (images / "0.jpg").write_bytes((images / "0.jpg").read_bytes()[:600])  # items 0 and 1
    (images / "2.json").unlink()  # items 4 and 5
    with pytest.warns(
        UserWarning, match=r"val\.jsonl: 5 samples skipped, 3 kept; the first: .*val-0.*corrupt"
    ):
        dataset = VcrDataset.from_root(root, "val", on_bad_sample="skip")
    assert [item.annot_id for item in dataset.items()] == ["val-2", "val-6", "val-7"]
    named = ["val-0", "val-1", "val-3", "val-4", "val-5"]
    assert all(f"'{annot_id}'" in line for annot_id, line in zip(named, dataset.skipped, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert VcrDataset.from_root(root, "val", indices=[6, 7], on_bad_sample="skip").skipped == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": "vqa"}, "tasks is 'vqa'; choose one of"),
        ({"on_bad_sample": "ignore"}, "on_bad_sample is 'ignore'; choose 'raise' or 'skip'"),
        ({"indices": [6]}, r"indices holds 6, but .*val\.jsonl has 6 lines"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        VcrDataset.from_root(tiny_vcr(tmp_path), "val", **options)
