"""A tiny VQA in the official files, images too."""

import json
from pathlib import Path

from PIL import Image

ANSWERS = [["yes"] * 10, ["2"] * 4 + ["two"] * 3 + ["3"] * 3, ["red and white"] * 6 + ["red, white"] * 4]
TYPES = [("is this", "yes/no"), ("how many", "number"), ("what color is the", "other")]


def annotation(number: int, **changes) -> dict:
    """The annotation of question `number`; `changes` replace keys, a value of None removes the key."""
    answers = ANSWERS[number % 3]
    question_type, answer_type = TYPES[number % 3]
    item = {
        "question_type": question_type,
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": k + 1}
            for k, answer in enumerate(answers)
        ],
        "image_id": 100 + number // 2,
        "answer_type": answer_type,
        "question_id": 1000 + number,
    } | changes
    return {key: value for key, value in item.items() if value is not None}


def question(number: int, **changes) -> dict:
    """Question `number`; two an image."""
    item = {
        "image_id": 100 + number // 2,
        "question": f"What is number {number}?",
        "question_id": 1000 + number,
    } | changes
    return {key: value for key, value in item.items() if value is not None}


def write_v2(
    root: Path, questions: list[dict], annotations: list[dict] | None, split: str = "val2014"
) -> Path:
    """Official files of VQA v2 and every image that the questions name."""
    header = {"info": {"version": "2.0"}, "task_type": "Open-Ended", "data_subtype": split, "license": {}}
    root.mkdir(exist_ok=True)
    (root / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(
        json.dumps({**header, "questions": questions})
    )
    if annotations is not None:
        (root / f"v2_mscoco_{split}_annotations.json").write_text(
            json.dumps({**header, "annotations": annotations})
        )
    (root / split).mkdir(exist_ok=True)
    for item in questions:
        path = root / split / f"COCO_{split}_{item['image_id']:012d}.jpg"
        Image.new("RGB", (32, 24), (item["image_id"] % 256, 0, 0)).save(path)
    return root
