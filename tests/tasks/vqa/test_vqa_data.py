"""The official files of VQA v2 and VQA-CP, and what is said of bad ones."""

import json
import pickle

import pytest

from tasks.vqa.data import VqaDataset
from tests.helpers.tiny_vqa import annotation, question, write_v2

pytestmark = pytest.mark.usefixtures("own_cache")


def make(tmp_path, count=4, **options):
    root = write_v2(
        tmp_path / "vqa", [question(n) for n in range(count)], [annotation(n) for n in range(count)]
    )
    return root, VqaDataset.from_root(root, "val", **options)


def test_questions_meet_their_annotations_whatever_the_order(tmp_path):
    order = [2, 0, 3, 1]
    root = write_v2(tmp_path / "vqa", [question(n) for n in range(4)], [annotation(n) for n in order])
    dataset = VqaDataset.from_root(root, "val")
    assert [dataset[n].question_id for n in range(4)] == [1000, 1001, 1002, 1003]
    example = dataset[1]
    assert (example.question, example.question_type, example.answer_type) == (
        "What is number 1?",
        "how many",
        "number",
    )
    assert example.answer == "2"
    assert example.answers == ("2",) * 4 + ("two",) * 3 + ("3",) * 3
    assert example.image_key == "COCO_val2014_000000000100.jpg"
    assert example.image().size == (32, 24)
    assert dataset.column("answer_type") == ["yes/no", "number", "other", "yes/no"]
    assert VqaDataset.from_root(root, "val", indices=[3, 0]).column("question_id") == [1003, 1000]
    assert pickle.loads(pickle.dumps(dataset))[1] == example


def test_a_changed_file_is_read_anew(tmp_path):
    root, dataset = make(tmp_path)
    assert len(dataset) == 4
    write_v2(root, [question(n) for n in range(5)], [annotation(n) for n in range(5)])
    assert len(VqaDataset.from_root(root, "val")) == 5


def test_a_test_split_has_no_answers(tmp_path):
    root = write_v2(tmp_path / "vqa", [question(0)], None, split="test2015")
    example = VqaDataset.from_root(root, "test")[0]
    assert (example.answers, example.answer, example.answer_type) == (None, None, None)
    assert example.image().size == (32, 24)
    dev = root / "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    dev.write_text((root / "v2_OpenEnded_mscoco_test2015_questions.json").read_text())
    assert VqaDataset.from_root(root, "test-dev")[0].image_key == "COCO_test2015_000000000100.jpg"


def test_vqa_cp_takes_images_of_both_splits(tmp_path):
    root = tmp_path / "vqa"
    for split, number in (("train2014", 0), ("val2014", 2)):
        write_v2(root, [question(number)], None, split=split)
    questions = [question(0, coco_split="train2014"), question(2, coco_split="val2014")]
    annotations = [annotation(0, coco_split="train2014"), annotation(2, coco_split="val2014")]
    (root / "vqacp_v2_test_questions.json").write_text(json.dumps(questions))
    (root / "vqacp_v2_test_annotations.json").write_text(json.dumps(annotations))
    dataset = VqaDataset.from_root(root, "cp_test")
    assert [example.image_key for example in dataset] == [
        "COCO_train2014_000000000100.jpg",
        "COCO_val2014_000000000101.jpg",
    ]
    assert [example.image().getpixel((0, 0))[0] // 100 for example in dataset] == [1, 1]


def test_other_splits_are_found_by_their_name(tmp_path):
    root = write_v2(tmp_path / "vqa", [question(0)], [annotation(0)], split="shifted2014")
    assert VqaDataset.from_root(root, "shifted2014")[0].image_key == "COCO_shifted2014_000000000100.jpg"


def test_images_may_lie_in_the_root_itself(tmp_path):
    root, _ = make(tmp_path)
    for image in (root / "val2014").iterdir():
        image.rename(root / image.name)
    (root / "val2014").rmdir()
    assert VqaDataset.from_root(root, "val")[0].image().size == (32, 24)


@pytest.mark.parametrize(
    ("questions", "annotations", "message"),
    [
        ([question(0, question=" ")], [annotation(0)], r"questions\[0\]: question is ' ', expected a text"),
        (
            [question(0, image_id="7")],
            [annotation(0)],
            r"questions\[0\]: image_id is '7', expected a whole number",
        ),
        ([question(0)], [annotation(0, answers=[])], r"annotations\[0\]: answers are \[\]"),
        ([question(0)], [annotation(0, answers=["yes"])], r"annotations\[0\]: answers hold 'yes', expected"),
        ([question(0)], [annotation(0, answer_type=None)], r"annotations\[0\]: answer_type is None"),
        ([question(0), question(1)], [annotation(0)], "question_id 1001 has no annotation in"),
    ],
)
def test_a_bad_item_is_named_or_left_out(tmp_path, questions, annotations, message):
    questions, annotations = [*questions, question(5)], [*annotations, annotation(5)]
    root = tmp_path / "vqa"
    root.mkdir()
    header = {"data_subtype": "val2014"}
    (root / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(
        json.dumps({**header, "questions": questions})
    )
    (root / "v2_mscoco_val2014_annotations.json").write_text(
        json.dumps({**header, "annotations": annotations})
    )
    with pytest.raises(ValueError, match=message):
        VqaDataset.from_root(root, "val")
    with pytest.warns(UserWarning, match="samples skipped, 0 kept"):
        dataset = VqaDataset.from_root(root, "val", on_bad_sample="skip")
    assert len(dataset.skipped) == len(questions)  # the good ones have no image


def test_missing_and_corrupt_images_are_named_or_left_out(tmp_path):
    root, dataset = make(tmp_path, count=6)
    (root / "val2014" / "COCO_val2014_000000000100.jpg").unlink()
    (root / "val2014" / "COCO_val2014_000000000101.jpg").write_bytes(b"not a picture")
    with pytest.raises(
        FileNotFoundError, match=r"question_id 1001: image .*100\.jpg is missing; unpack val2014\.zip"
    ):
        dataset[1].image()
    with pytest.raises(ValueError, match=r"question_id 1002: image .*101\.jpg is corrupt"):
        dataset[2].image()
    with pytest.warns(UserWarning, match="4 samples skipped, 2 kept"):
        kept = VqaDataset.from_root(root, "val", on_bad_sample="skip")
    assert kept.column("question_id") == [1004, 1005]
    assert "question_id 1001: image" in kept.skipped[1]


def test_files_of_different_splits_and_double_ids_are_refused(tmp_path):
    root = write_v2(tmp_path / "vqa", [question(0)], [annotation(0), annotation(1)])
    with pytest.raises(ValueError, match=r"1 annotations \(1001, …\) have no question"):
        VqaDataset.from_root(root, "val", on_bad_sample="skip")
    write_v2(root, [question(0), question(0)], [annotation(0)])
    with pytest.raises(ValueError, match=r"questions\[1\]: question_id 1000 more than once"):
        VqaDataset.from_root(root, "val", on_bad_sample="skip")


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"mscoco_dev_questions\.json does not exist.* splits by name: train,"
    ):
        VqaDataset.from_root(tmp_path, "dev")
    with pytest.raises(FileNotFoundError, match=r"train2014_questions\.json does not exist; the split"):
        VqaDataset.from_root(tmp_path, "train")
    root, _ = make(tmp_path)
    with pytest.raises(ValueError, match=r"indices holds 4, but .* has 4 items"):
        VqaDataset.from_root(root, "val", indices=[4])
    with pytest.raises(ValueError, match="on_bad_sample is 'ignore'"):
        VqaDataset.from_root(root, "val", on_bad_sample="ignore")
