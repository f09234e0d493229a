"""Your own questions and images as official VQA files, so that every command here takes them.

    python -m tasks.vqa.convert --table train.csv --images pictures --out my_vqa --split train
    accelerate launch scripts/finetune_vqa.py --data-root my_vqa …

The table is a CSV, a JSON-lines file, or from Python anything that gives dictionaries: a list, a `datasets` table.
"""

import argparse
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from PIL import Image

from cliptd.data.files.jsonl import JsonLines
from cliptd.data.files.text_files import csv_rows
from cliptd.data.images import as_rgb
from cliptd.utils.files import whole_file
from tasks.vqa.data import SPLITS, image_name

ANNOTATORS = 10
QUESTION_TYPE_WORDS = 2


def write_official(
    rows: Iterable[Mapping[str, Any]],
    images_root: str | Path,
    out: str | Path,
    split: str = "train",
    *,
    image: str = "image",
    question: str = "question",
    answer: str = "answer",
    question_type: str | None = None,
) -> dict[str, int]:
    """Write a split's questions, annotations and links to its images; returns how many questions and images.

    rows: one a question. images_root: where image files are looked for. out: the data root of finetune_vqa.py.
    split: "train", "val", or "test" (no answers are written).
    image: column with a file name below images_root, or with a PIL image (equal ones are one image).
    question: column with the question.
    answer: column with the answer, or with a list of the annotators' answers; a single one stands for ten annotators
        who agree, so that accuracy is the share of answers that are right.
    question_type: column; None: the question's first two words.

    Raises ValueError and FileNotFoundError that name the row (from 1) and what is wrong with it. Files appear only
    when all rows are written.
    """
    out, images_root = Path(out), Path(images_root)
    if split not in ("train", "val", "test"):
        raise ValueError(f"split is {split!r}; choose 'train', 'val' or 'test'")
    questions_name, annotations_name, image_split = SPLITS[split]
    (out / image_split).mkdir(parents=True, exist_ok=True)
    names = [name for name in (questions_name, annotations_name) if name is not None]
    ids: dict[str, int] = {}
    count = 0
    with ExitStack() as stack:
        partials = [stack.enter_context(whole_file(out / name)) for name in names]
        files = [stack.enter_context(open(partial, "w", encoding="utf-8")) for partial in partials]
        for file, key in zip(files, ("questions", "annotations"), strict=False):
            file.write(json.dumps({"info": {}, "data_subtype": image_split})[:-1] + f', "{key}": [')
        for count, row in enumerate(rows, 1):
            where = f"row {count}"
            text = _text(row, question, where)
            image_id = _link(row, image, images_root, out / image_split, image_split, ids, where)
            common = {"image_id": image_id, "question_id": count}
            items = [{**common, "question": text}]
            if split != "test":
                kind = " ".join(re.findall(r"\w+", text.lower())[:QUESTION_TYPE_WORDS])
                kind = kind if question_type is None else _text(row, question_type, where)
                items.append({**common, **_annotation(row, answer, kind, where)})
            for file, item in zip(files, items, strict=True):
                file.write(("" if count == 1 else ", ") + json.dumps(item))
        if count == 0:
            raise ValueError("the table has no row")
        for file in files:
            file.write("]}")
    return {"questions": count, "images": len(ids)}


def _annotation(row: Mapping[str, Any], column: str, question_type: str, where: str) -> dict[str, Any]:
    value = row.get(column)
    answers = list(value) if isinstance(value, list | tuple) else [value] * ANNOTATORS
    answers = [str(one) if _is_number(one) else one for one in answers]
    if not answers or not all(isinstance(one, str) and one.strip() for one in answers):
        raise ValueError(
            f"{where}: {column} is {value!r}, expected an answer or a list of the annotators' answers"
        )
    most_frequent = max(answers, key=answers.count)
    if all(one.lower() in ("yes", "no") for one in answers):
        answer_type = "yes/no"
    else:
        answer_type = "number" if re.fullmatch(r"[0-9][0-9.,]*", most_frequent) else "other"
    return {
        "question_type": question_type,
        "answer_type": answer_type,
        "multiple_choice_answer": most_frequent,
        "answers": [
            {"answer": one, "answer_confidence": "yes", "answer_id": k + 1} for k, one in enumerate(answers)
        ],
    }


def _is_number(value: Any) -> bool:
    """Whether it is one that an answer may be: no truth value, and not NaN, as tables have for an empty cell."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _link(
    row: Mapping[str, Any], column: str, root: Path, folder: Path, split: str, ids: dict[str, int], where: str
) -> int:
    """The image's number; its file under COCO's name is made when it is first met."""
    found = row.get(column)
    if isinstance(found, Image.Image):
        picture = as_rgb(found)
        key = hashlib.sha256(f"{picture.size}\n".encode() + picture.tobytes()).hexdigest()
        if key not in ids:
            ids[key] = len(ids) + 1
            path = folder / image_name(split, ids[key])
            path.unlink(missing_ok=True)  # it may be a link to a picture of the user's
            picture.save(path, quality=95, subsampling=0)
        return ids[key]
    if not isinstance(found, str | Path) or not str(found):
        raise ValueError(f"{where}: {column} is {found!r}, expected a file name or a PIL image")
    path = (root / found).resolve()
    if str(path) not in ids:
        if not path.is_file():
            raise FileNotFoundError(f"{where}: image {path} does not exist")
        ids[str(path)] = len(ids) + 1
        link = folder / image_name(split, ids[str(path)])
        link.unlink(missing_ok=True)
        try:
            os.symlink(path, link)
        except OSError:  # a file system without links
            shutil.copyfile(path, link)
    return ids[str(path)]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: {column} is {value!r}, expected a text; the row has {', '.join(map(str, row))}"
        )
    return value


def read_table(path: str | Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a .csv (with a header), .tsv or .jsonl file, streamed.

    Raises ValueError for another kind of file, and as `csv_rows`.
    """
    path = Path(path)
    if path.suffix in (".csv", ".tsv"):
        yield from (row for _, row in csv_rows(path, "\t" if path.suffix == ".tsv" else ","))
    elif path.suffix == ".jsonl":
        lines = JsonLines(path)
        yield from (lines.raw(index) for index in range(len(lines)))
    else:
        raise ValueError(f"{path}: expected a .csv, .tsv or .jsonl file")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.vqa.convert", description=__doc__.split("\n")[0])
    parser.add_argument("--table", required=True, help=".csv, .tsv or .jsonl, a question a row")
    parser.add_argument("--images", required=True, help="folder that image file names are relative to")
    parser.add_argument("--out", required=True, help="data root for finetune_vqa.py")
    parser.add_argument("--split", default="train", choices=["train", "val", "test"])
    for name in ("image", "question", "answer"):
        parser.add_argument(f"--{name}", default=name, help="column")
    parser.add_argument("--question-type", help="column; default: the question's first two words")
    options = parser.parse_args(arguments)
    written = write_official(
        read_table(options.table),
        options.images,
        options.out,
        options.split,
        image=options.image,
        question=options.question,
        answer=options.answer,
        question_type=options.question_type,
    )
    print(json.dumps(written))


if __name__ == "__main__":
    main()
