"""Measure time and memory of the readers on files as large as the real ones, which are made here.

Each start is a process of its own: the first makes the tables, the second finds them. Memory is the peak of the
process's resident memory, with Python and its libraries.

    python scripts/benchmarks/benchmark_readers.py --folder runs/readers
"""

import json
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cliptd.utils.files import write_lines
from cliptd.utils.tables import markdown_table, print_table

TASKS = ("vqa", "snli_ve", "vcr")
WORDS = ["a", "man", "in", "red", "walks", "past", "the", "old", "house", "and", "opens", "some", "door"]


@dataclass
class Readers:
    """What to measure."""

    folder: Path = Path("runs/readers")
    """Folder of the files, the tables and the report."""
    items: tuple[int, int, int] = (443_757, 529_527, 212_923)
    """Training items of VQA v2, SNLI-VE and VCR."""
    reads: int = 2000
    """Items read at random after the start."""
    task: Literal["", "vqa", "snli_ve", "vcr"] = ""
    """Measure one start of this task in this process and print it. Empty: all tasks, two starts each."""


def main(options: Readers) -> None:
    if options.task:
        print(json.dumps(measure(options)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for task, count in zip(TASKS, options.items, strict=True):
        size = write_files(task, options.folder / f"{task}-{count}", count)
        for start in ("first", "second"):
            command = [sys.executable, __file__, "--folder", options.folder, "--task", task]
            command += ["--items", *options.items, "--reads", options.reads]
            environment = {**os.environ, "CLIPTD_CACHE": str(options.folder / "cache")}
            done = subprocess.run(
                list(map(str, command)), env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            measured = json.loads(done.stdout.splitlines()[-1])
            rows.append(
                {"task": task, "items": f"{count:,}", "files MB": size // 2**20, "start": start, **measured}
            )
    print_table(rows, digits=1)
    (options.folder / "table.md").write_text(markdown_table(rows, digits=1) + "\n", encoding="utf-8")


def measure(options: Readers) -> dict[str, float]:
    """Open the task's training set, read the column that splits need and items at random, and return the times."""
    root = options.folder / f"{options.task}-{options.items[TASKS.index(options.task)]}"
    began = time.perf_counter()
    if options.task == "vqa":
        from tasks.vqa.data import VqaDataset

        dataset, key = VqaDataset.from_root(root, "train"), "answer_type"
    elif options.task == "snli_ve":
        from tasks.snli_ve.data import SnliVeDataset

        dataset, key = SnliVeDataset.from_root(root, "train"), "label"
    else:
        from tasks.vcr.data import VcrDataset

        dataset, key = VcrDataset.from_root(root, "train", tasks="q_to_a"), "answer_label"
    opened = time.perf_counter()
    assert len(dataset.column(key)) == len(dataset)
    column = time.perf_counter()
    rng = random.Random(0)
    for _ in range(options.reads):
        dataset[rng.randrange(len(dataset))]
    read = time.perf_counter()
    return {
        "open s": opened - began,
        "column s": column - opened,
        "µs an item": 1e6 * (read - column) / options.reads,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def write_files(task: str, root: Path, count: int) -> int:
    """Write files in the official format without images, unless they are there, and return their size in bytes."""
    marker = root / "complete"
    if not marker.exists():
        root.mkdir(parents=True, exist_ok=True)
        {"vqa": _write_vqa, "snli_ve": _write_snli_ve, "vcr": _write_vcr}[task](root, count, random.Random(0))
        marker.touch()
    return sum(path.stat().st_size for path in root.glob("*.json*"))


def _write_vqa(root: Path, count: int, rng: random.Random) -> None:
    (root / "train2014").mkdir(exist_ok=True)
    answers = ["yes", "no", "2", "red", *(f"answer {n}" for n in range(20_000))]

    def annotation(n: int) -> dict:
        told = rng.choice(answers)
        each = [told if rng.random() < 0.7 else rng.choice(answers) for _ in range(10)]
        return {
            "question_type": f"what is the {n % 60}",
            "multiple_choice_answer": told,
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": k + 1}
                for k, answer in enumerate(each)
            ],
            "image_id": 100_000 + n // 5,
            "answer_type": ("yes/no", "number", "other")[n % 3],
            "question_id": 1_000_000 + n,
        }

    def question(n: int) -> dict:
        words = " ".join(rng.choice(answers) for _ in range(5))
        return {
            "image_id": 100_000 + n // 5,
            "question": f"What is the {words}?",
            "question_id": 1_000_000 + n,
        }

    for name, key, item in (
        ("v2_OpenEnded_mscoco_train2014_questions.json", "questions", question),
        ("v2_mscoco_train2014_annotations.json", "annotations", annotation),
    ):
        with open(root / name, "w", encoding="utf-8") as file:
            file.write(json.dumps({"info": {}, "data_subtype": "train2014"})[:-1] + f', "{key}": [')
            file.writelines((", " if n else "") + json.dumps(item(n)) for n in range(count))
            file.write("]}")


def _write_snli_ve(root: Path, count: int, rng: random.Random) -> None:
    (root / "flickr30k_images").mkdir(exist_ok=True)
    labels = ("entailment", "neutral", "contradiction")
    write_lines(
        root / "snli_ve_train.jsonl",
        (
            json.dumps(
                {
                    "Flickr30K_ID": str(10**8 + n // 18),
                    "annotator_labels": [labels[n % 3]],
                    "captionID": f"{10**8 + n // 18}.jpg#0",
                    "gold_label": labels[n % 3],
                    "pairID": f"{10**8 + n // 18}.jpg#0r{n}",
                    "sentence1": (caption := " ".join(rng.choices(WORDS, k=13))),
                    "sentence1_binary_parse": f"( {caption} )" * 2,
                    "sentence1_parse": f"(ROOT (S (NP {caption})))" * 3,
                    "sentence2": (text := " ".join(rng.choices(WORDS, k=8))),
                    "sentence2_binary_parse": f"( {text} )" * 2,
                    "sentence2_parse": f"(ROOT (S (NP {text})))" * 3,
                }
            )
            for n in range(count)
        ),
    )


def _write_vcr(root: Path, count: int, rng: random.Random) -> None:
    folder = root / "vcr1images" / "movie"
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {
        "boxes": [[0, 0, 9, 9, 1.0]] * 3,
        "segms": [[]] * 3,
        "names": ["person"] * 3,
        "width": 10,
        "height": 10,
    }
    (folder / "0.json").write_text(json.dumps(metadata))

    def choices() -> list[list]:
        return [[[0], *rng.choices(WORDS, k=12)] for _ in range(4)]

    write_lines(
        root / "train.jsonl",
        (
            json.dumps(
                {
                    "movie": "movie",
                    "objects": ["person"] * 3,
                    "img_fn": "movie/0.jpg",
                    "metadata_fn": "movie/0.json",
                    "question": ["Why", "is", [1], "here", "?"],
                    "answer_choices": choices(),
                    "answer_label": n % 4,
                    "rationale_choices": choices(),
                    "rationale_label": n % 4,
                    "annot_id": f"train-{n}",
                    "img_id": f"train-{n // 2}",
                }
            )
            for n in range(count)
        ),
    )


if __name__ == "__main__":
    main(tyro.cli(Readers, description=__doc__))
