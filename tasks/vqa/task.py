"""VQA as fine-tuning asks for it: its splits, its answers, its student, the official scores."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import torch
from accelerate import Accelerator

from cliptd.data.identity import identity_of_files
from cliptd.utils.files import write_atomically
from tasks.batches.answered import Answered, evenly_spaced
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.students.inputs import StudentInput
from tasks.students.loading import load_classifier
from tasks.students.models import Classifier
from tasks.students.predict_classes import predict_classes
from tasks.vqa.data import VqaDataset
from tasks.vqa.metric import answer_accuracy, vqa_metrics
from tasks.vqa.settings import FinetuneVqa, training_sets
from tasks.vqa.texts import question_texts
from tasks.vqa.vocabulary import FrequentAnswers


class VqaTask:
    """The task VQA: overall and the accuracy of each answer type in percent, and items.

    Results files for the official evaluator are in `run_dir`/METHOD/predictions_NAME.json, the answers to choose from
    in `run_dir`/answers.json.
    """

    about_tests: ClassVar = {}

    def __init__(self, settings: FinetuneVqa, accelerator: Accelerator) -> None:
        self._settings, self._accelerator = settings, accelerator
        with accelerator.main_process_first():  # tables are made once
            self.training_set, self.validation_set, self.split = training_sets(settings.data, settings.seed)
            self.vocabulary = self.training_set.vocabulary
            self.tests = self._test_sets()
            every = dataclasses.replace(settings.data, on_bad_sample="raise")  # none may stay without answer
            self.to_answer = {name: every.dataset(name, self.vocabulary) for name in settings.server_splits}
        frequent = self.training_set.frequent_answers
        self.collate = load_collate(settings, frequent, accelerator.device)
        self.settings = {
            "loss": settings.loss,
            "teacher_text": settings.teacher_text,
            "rival_answers": settings.rival_answers,
            "proposals": None
            if settings.data.proposals is None
            else identity_of_files([settings.data.proposals]),
            "grid": settings.data.grid,
            "answers": self.vocabulary.answers,
        }

    def load_student(self) -> Classifier:
        options = StudentInput(self._settings).model_options(self.collate)
        return load_classifier(
            self._settings.student,
            self.vocabulary.answers,
            multi_label=self._settings.loss == "bce",
            **options,
        )

    def scores(
        self, model: torch.nn.Module, dataset: VqaDataset, write_to: Path | None = None
    ) -> dict[str, float]:
        columns = [dataset.column(key) for key in ("question_id", "answers", "question_type", "answer_type")]
        if None in columns[1]:
            raise ValueError(f"{dataset.name} has no annotations, so nothing can be scored")
        given = self._answers(model, dataset, write_to)
        scores = vqa_metrics(
            (question_id, answer_accuracy(answer, annotated), kind, answer_type)
            for answer, question_id, annotated, kind, answer_type in zip(given, *columns, strict=True)
        )
        return {"overall": scores["overall"], **scores["per_answer_type"], "items": scores["questions"]}

    def answered(self, dataset: VqaDataset, written: Path, *, most: int) -> list[Answered]:
        """Return questions with the student's answers. Right is an answer of an accuracy of a half or more."""
        given = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))
        chosen = []
        for position in evenly_spaced(len(dataset), most):
            example, answer = dataset[position], given[position]["answer"]
            is_right = answer_accuracy(answer, example.answers or ()) >= 0.5
            chosen.append(Answered(example.image, example.question, example.answer or "", answer, is_right))
        return chosen

    def true_of_their_images(self, dataset: VqaDataset) -> VqaDataset:
        """All: the question with its answer is."""
        return dataset

    def finish(self, student: Classifier, run_dir: Path) -> None:
        """Write the answers that the student chooses from, and the results of every server split, as the official
        evaluator reads them.
        """
        if self._accelerator.is_main_process:
            self.vocabulary.save(self._settings.run_dir / "answers.json")
        for name, dataset in self.to_answer.items():
            self._answers(student, dataset, run_dir / f"predictions_{name}")

    def _test_sets(self) -> dict[str, VqaDataset]:
        data, tests = self._settings.data, {}
        for name in self._settings.test_sets:
            dataset = data.dataset(name, self.vocabulary)
            tests[name] = data.in_domain(dataset)
            if data.hold_out_question_types:
                tests[f"{name}_held_out"] = data.held_out_questions(dataset)
        limit = self._settings.max_test_items
        return {name: dataset.subset(range(len(dataset))[:limit]) for name, dataset in tests.items()}

    def _answers(self, model: torch.nn.Module, dataset: VqaDataset, write_to: Path | None) -> list[str]:
        classes = predict_classes(
            model,
            dataset,
            self.collate,
            lengths=[len(text) for text in dataset.column("question")],
            batch_size=self._settings.eval_batch_size,
            num_workers=self._settings.training.num_workers,
            accelerator=self._accelerator,
        )
        answers = [self.vocabulary.answers[number] for number in classes]
        if write_to is not None and self._accelerator.is_main_process:
            results = [
                {"question_id": question_id, "answer": answer}
                for question_id, answer in zip(dataset.column("question_id"), answers, strict=True)
            ]
            write_atomically(write_to.with_suffix(".json"), json.dumps(results) + "\n")
        return answers


def load_collate(
    settings: FinetuneVqa, frequent: FrequentAnswers | None, device: torch.device | str = "cpu"
) -> PatchCollator | RegionCollator:
    """The student's own collator; frequent: for the rivals. A region backbone runs on `device`."""
    student = StudentInput(settings, device)
    texts = question_texts(
        student.tokenizer(),
        frequent,
        teacher_text=settings.teacher_text,
        rival_answers=settings.rival_answers,
        max_length=settings.max_text_tokens,
    )
    return student.collator(texts)
