"""The selection page of a task: its first training instances, asked of the teacher and of a student."""

import copy
import dataclasses
from typing import Any

import torch

from cliptd.adapter.student_outputs import student_probability
from cliptd.data.identity import wherever
from cliptd.store.live import LiveSource
from cliptd.store.reader import TeacherStore
from cliptd.store.source import Source
from cliptd.targeted.collator import DistillationCollator
from cliptd.targeted.config import Method
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from tasks.finetuning.selection_page import answer_lines, inspect_batch, selection_page
from tasks.finetuning.teacher_source import document_frequency
from tasks.finetuning.training_material import TrainingMaterial
from tasks.known_tasks import KnownTask
from tasks.settings import FinetuneSettings


def inspect_selection(
    settings: FinetuneSettings, known: KnownTask, method: Method, instances: int
) -> tuple[str, bool]:
    """Return the page of the first labelled training instances, and whether the student is trained.

    Raises:
        ValueError: the method selects nothing of its own, or no teacher was adapted in the run folder.
    """
    config = settings.method_config(method)
    if not config.distils:
        raise ValueError(f"method {method!r} distils nothing; choose another --method, such as targeted")
    if config.shuffle_teacher:
        raise ValueError(
            f"method {method!r} selects the words of targeted and gives them another instance's embeddings; look at "
            "--method targeted"
        )
    name, pretrained = settings.teacher, settings.pretrained
    if method == "adapted_teacher":
        adapted = settings.run_dir / method / "teacher"
        if not (adapted / "adapted.json").is_file():
            raise ValueError(
                f"{adapted} holds no adapted teacher; give the --run-dir of a run that adapted it"
            )
        name, pretrained = str(adapted), None
    settings = dataclasses.replace(settings, test_sets=())
    accelerator = make_accelerator(settings.training, settings.run_dir)
    teacher = load_teacher(name, pretrained, device=accelerator.device)
    task = known.task_class(settings, accelerator)
    questions = TrainingMaterial(settings, task).questions
    source: Source
    if settings.store is not None:
        source = TeacherStore.open(settings.store, teacher)
    else:
        source = LiveSource(teacher, calibration=questions.calibration_images())
    collate = copy.copy(task.collate)
    collate.distillation = True
    examples = [task.training_set[k] for k in range(min(instances, len(task.training_set)))]
    batch = collate(examples)
    inputs, labels = batch.pop("distillation_inputs"), batch.pop("labels")
    torch.manual_seed(settings.seed)
    student = task.load_student().eval()
    with torch.no_grad():
        logits = student(**batch).logits
    several = inputs.candidates > 1
    frequency = document_frequency(config, questions)
    inspected = inspect_batch(
        DistillationCollator(None, source, config, document_frequency=frequency),
        inputs,
        labels=labels if several else None,
        student=student_probability(logits, labels),
    )
    trained = not student.fresh_parameters
    named: dict[Any, Any] = student.config.id2label or {}
    names = [f"choice {c + 1}" if several else str(named.get(c, c)) for c in range(logits.shape[1])]
    about = [
        f"Method: {method}. Teacher: {wherever(name)}.",
        f"Student: {settings.student}, trained."
        if trained
        else f"Student: {wherever(settings.student)}, its head untrained, so its probabilities say nothing.",
    ]
    page = selection_page(
        inspected,
        [example.image() for example in examples],
        title=f"{settings.task}: what {method} selects",
        about=about,
        labels=labels.tolist() if several else [None] * len(examples),
        answers=answer_lines(logits, labels, names, trained=trained),
    )
    return page, trained
