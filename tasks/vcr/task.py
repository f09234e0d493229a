"""VCR as fine-tuning asks for it: its splits, its student, its scores in and out of domain."""

import functools
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from accelerate import Accelerator

from cliptd.data.files.cache import derived_file
from tasks.batches.answered import Answered
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.students.inputs import StudentInput
from tasks.students.loading import load_student
from tasks.students.models import MultipleChoice
from tasks.vcr.answers import read_answers
from tasks.vcr.data import VcrDataset
from tasks.vcr.marks import marked
from tasks.vcr.predict import evaluate, predict, write_leaderboard
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.shift import RULES, write_shifted
from tasks.vcr.split import training_sets
from tasks.vcr.texts import ChoiceTexts

RULES_VERSION = 1  # goes up with every change of the rules


class VcrTask:
    """The task VCR: q_to_a, qa_to_r, q_to_ar in percent, their mean for validation, and the number of items.

    Probabilities for the test sets' items are in `run_dir`/METHOD/predictions_NAME.jsonl.
    """

    about_tests: ClassVar = {}

    def __init__(self, settings: FinetuneVcr, accelerator: Accelerator) -> None:
        self._settings, self._accelerator = settings, accelerator
        self.training_set, self.validation_set, self.split = training_sets(settings.data, settings.seed)
        self.tests = _test_sets(settings, accelerator)
        self.to_answer = {}
        if settings.leaderboard:  # its file must be there, and none may stay without answer
            options = {**settings.data.dataset_options, "tasks": "q_to_a", "on_bad_sample": "raise"}
            self.to_answer["test"] = VcrDataset.from_root(settings.data.data_root, "test", **options)
        self.collate = load_collate(settings, accelerator.device)
        self.settings = {"tasks": settings.data.tasks, "teacher_text": settings.teacher_text}

    def load_student(self) -> MultipleChoice:
        return load_vcr_student(self._settings, self.collate)

    def scores(
        self, model: torch.nn.Module, dataset: VcrDataset, write_to: Path | None = None
    ) -> dict[str, float]:
        file = None if write_to is None else write_to.with_suffix(".jsonl")
        scores = evaluate(model, dataset, self.collate, write_to=file, **self._prediction_options())
        of_task = {"both": ("q_to_a", "qa_to_r"), "q_to_a": ("q_to_a",), "qa_to_r": ("qa_to_r",)}
        chosen = of_task[self._settings.data.tasks]
        return {**scores, "mean": sum(scores[name] for name in chosen) / len(chosen)}

    def answered(self, dataset: VcrDataset, written: Path, *, most: int) -> list[Answered]:
        """Return the students' choices of answers, or of rationales if these alone are learned."""
        subtask = "qa_to_r" if self._settings.data.tasks == "qa_to_r" else "q_to_a"
        return read_answers(dataset, written.with_suffix(".jsonl"), subtask, most=most)

    def true_of_their_images(self, dataset: VcrDataset) -> VcrDataset:
        """All: the right choice is."""
        return dataset

    def finish(self, student: MultipleChoice, run_dir: Path) -> None:
        """Write the leaderboard's CSV, if it was asked for."""
        for dataset in self.to_answer.values():
            predictions = predict(student, dataset, self.collate, given="all", **self._prediction_options())
            if self._accelerator.is_main_process:
                write_leaderboard(run_dir / "leaderboard.csv", predictions)

    def _prediction_options(self) -> dict[str, Any]:
        return {
            "batch_size": self._settings.eval_batch_size,
            "num_workers": self._settings.training.num_workers,
            "accelerator": self._accelerator,
        }


def load_vcr_student(settings: FinetuneVcr, collate: PatchCollator | RegionCollator) -> MultipleChoice:
    """The student, its head fresh; `collate` from `load_collate`."""
    return load_student(settings.student, **StudentInput(settings).model_options(collate))


def load_collate(settings: FinetuneVcr, device: torch.device | str = "cpu") -> PatchCollator | RegionCollator:
    """The student's own collator; a region backbone runs on `device`."""
    student = StudentInput(settings, device)
    texts = ChoiceTexts(
        student.tokenizer(), max_length=settings.max_text_tokens, teacher_text=settings.teacher_text
    )
    return student.collator(texts, draw=marked(texts))


def _test_sets(settings: FinetuneVcr, accelerator: Accelerator) -> dict[str, VcrDataset]:
    """Named test sets, the edited ones among them."""
    options = settings.data.dataset_options
    root = settings.data.data_root
    with accelerator.main_process_first():  # an edited file is made once
        files = {
            name: _edited(name, root / "val.jsonl", settings.data.on_bad_sample)
            if name in RULES
            else root / f"{name}.jsonl"
            for name in settings.test_sets
        }
    tests = {}
    for name, path in files.items():
        if not path.is_file():
            raise FileNotFoundError(f"test set {name!r}: {path} does not exist; see --test-sets")
        tests[name] = VcrDataset(path, root / "vcr1images", **options)
    if settings.data.hold_out_movies:
        for dataset in tests.values():  # what is in domain shows none of the held-out movies
            movies = zip(dataset.indices, dataset.movies(), strict=True)
            dataset.indices = [
                k for k, movie in movies if not movie.startswith(settings.data.hold_out_movies)
            ]
        tests["held-out movies"] = settings.data.held_out_items()
    for dataset in tests.values():
        dataset.indices = dataset.indices[: settings.max_test_items]
    for name in [name for name, dataset in tests.items() if not dataset.num_items]:
        accelerator.print(f"test set {name!r} holds no item and is left out")
    return {name: dataset for name, dataset in tests.items() if dataset.num_items}


def _edited(rule: str, annotations: Path, on_bad_sample: Literal["raise", "skip"]) -> Path:
    write = functools.partial(write_shifted, rule, annotations, on_bad_sample=on_bad_sample)
    facts = {"version": RULES_VERSION, "on_bad_sample": on_bad_sample}
    return derived_file(f"val_{rule}.jsonl", write, [annotations], **facts)
