"""SNLI-VE as fine-tuning asks for it: its splits, its student, its accuracy."""

import functools
import json
from pathlib import Path
from typing import ClassVar

import torch
from accelerate import Accelerator

from cliptd.data.files.cache import derived_file
from cliptd.data.files.jsonl import JsonLines
from cliptd.data.identity import identity_of_files
from cliptd.utils.files import write_atomically
from tasks.batches.answered import Answered, evenly_spaced
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.batches.texts import SingleTexts
from tasks.snli_ve.data import SnliVeDataset
from tasks.snli_ve.hard import write_hard
from tasks.snli_ve.labels import LABELS
from tasks.snli_ve.metric import snli_ve_metrics
from tasks.snli_ve.settings import FinetuneSnliVe, training_sets
from tasks.students.inputs import StudentInput
from tasks.students.loading import load_classifier
from tasks.students.models import Classifier
from tasks.students.predict_classes import predict_classes

HARD = "_hard"
HARD_VERSION = 1  # goes up with every change of what is hard


class SnliVeTask:
    """The task SNLI-VE: accuracy and that of each label in percent, and items.

    Predictions for the test sets are in `run_dir`/METHOD/predictions_NAME.jsonl.
    """

    to_answer: ClassVar = {}

    def __init__(self, settings: FinetuneSnliVe, accelerator: Accelerator) -> None:
        self._settings, self._accelerator = settings, accelerator
        with accelerator.main_process_first():  # tables are made once
            self.training_set, self.validation_set, self.split = training_sets(settings.data, settings.seed)
            self.tests = {
                name: self._hard(name) if name.endswith(HARD) else settings.data.dataset(name)
                for name in settings.test_sets
            }
        without_label = {name: dataset.without_label for name, dataset in self.tests.items()}
        self.about_tests = {"pairs_without_label_in_tests": without_label}
        for name, dataset in self.tests.items():
            self.tests[name] = dataset.subset(range(len(dataset))[: settings.max_test_items])
        self.collate = load_collate(settings, accelerator.device)
        self.settings = {
            "proposals": None
            if settings.data.proposals is None
            else identity_of_files([settings.data.proposals]),
            "grid": settings.data.grid,
        }

    def _hard(self, name: str) -> SnliVeDataset:
        """The pairs of a split that the hypothesis alone does not give away."""
        data = self._settings.data
        files = [data.data_root / f"snli_ve_{split}.jsonl" for split in ("train", name.removesuffix(HARD))]
        options = {"corrected_labels": data.corrected_labels, "on_bad_sample": data.on_bad_sample}
        write = functools.partial(write_hard, *files, **options)
        read = [*files, data.corrected_labels] if data.corrected_labels else files
        facts = {"version": HARD_VERSION, "on_bad_sample": data.on_bad_sample}
        return data.dataset(name, derived_file(f"snli_ve_{name}.jsonl", write, read, **facts))

    def load_student(self) -> Classifier:
        options = StudentInput(self._settings).model_options(self.collate)
        return load_classifier(self._settings.student, LABELS, **options)

    def scores(
        self, model: torch.nn.Module, dataset: SnliVeDataset, write_to: Path | None = None
    ) -> dict[str, float]:
        labels = dataset.column("label")
        if None in labels:
            raise ValueError(f"{dataset.name} has pairs without gold_label, so nothing can be scored")
        classes = predict_classes(
            model,
            dataset,
            self.collate,
            lengths=[len(text) for text in dataset.column("hypothesis")],
            batch_size=self._settings.eval_batch_size,
            num_workers=self._settings.training.num_workers,
            accelerator=self._accelerator,
        )
        if write_to is not None and self._accelerator.is_main_process:
            lines = [
                json.dumps({"pairID": pair_id, "prediction": LABELS[number]}) + "\n"
                for pair_id, number in zip(dataset.column("pair_id"), classes, strict=True)
            ]
            write_atomically(write_to.with_suffix(".jsonl"), "".join(lines))
        scores = snli_ve_metrics(classes, [LABELS.index(label) for label in labels])
        return {"accuracy": scores["accuracy"], **scores["per_class"], "items": scores["pairs"]}

    def answered(self, dataset: SnliVeDataset, written: Path, *, most: int) -> list[Answered]:
        """Return hypotheses with the student's labels."""
        lines = JsonLines(written.with_suffix(".jsonl"))
        chosen = []
        for position in evenly_spaced(len(dataset), most):
            example, given = dataset[position], lines[position]["prediction"]
            assert example.label is not None  # an evaluation scores labelled pairs only
            right = LABELS[example.label]
            chosen.append(Answered(example.image, example.hypothesis, right, given, given == right))
        return chosen

    def true_of_their_images(self, dataset: SnliVeDataset) -> SnliVeDataset:
        """The entailed hypotheses."""
        return dataset.subset([k for k, label in enumerate(dataset.column("label")) if label == LABELS[0]])

    def finish(self, student: Classifier, run_dir: Path) -> None:
        """Nothing: every test set has labels."""


def load_collate(
    settings: FinetuneSnliVe, device: torch.device | str = "cpu"
) -> PatchCollator | RegionCollator:
    """The student's own collator; a region backbone runs on `device`."""
    student = StudentInput(settings, device)
    texts = SingleTexts(
        student.tokenizer(),
        lambda example: example.hypothesis,
        lambda example: example.hypothesis,
        max_length=settings.max_text_tokens,
    )
    return student.collator(texts)
