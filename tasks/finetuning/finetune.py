"""Fine-tune a student on a task with each of several methods and score it; the part that all tasks share."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from cliptd.adapter.distilled_model import wrap
from cliptd.adapter.teacher_input import TeacherInput
from cliptd.data.identity import identity_of_files, wherever
from cliptd.store.source import Source
from cliptd.targeted.config import Method
from cliptd.targeted.relevance import DocumentFrequency
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator, train
from cliptd.utils.environment import environment
from cliptd.utils.files import readable_as_the_umask_says, write_atomically
from cliptd.utils.tensor_files import save_tensors
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.finetuning.adaptation import adapt_to_task
from tasks.finetuning.check_first import check_first
from tasks.finetuning.examples_page import write_examples_page
from tasks.finetuning.model_card import write_model_card
from tasks.finetuning.teacher_images import WithTeacherImages
from tasks.finetuning.teacher_source import teacher_source
from tasks.finetuning.training_material import TrainingMaterial
from tasks.settings import FinetuneSettings
from tasks.students.models import NativeStudent
from tasks.task import Task


def finetune(
    settings: FinetuneSettings, task_class: type[Task], *, name: str | None = None
) -> list[dict[str, Any]]:
    """Train and score every method; return the rows of results, which are also in `run_dir`/results.json.

    Each row has method, test_set, the task's scores, labelled (items), seed and best_step. Beside the rows the file
    holds the settings, versions, hardware, memory, and the seconds that each method took in this call. Progress calls
    the run by `name`, or else by the number and the name of the method.
    """
    accelerator = make_accelerator(settings.training, settings.run_dir)
    if accelerator.is_main_process:
        print("Checking data, student and teacher before the first step.", file=sys.stderr, flush=True)
    task = task_class(settings, accelerator)
    material = TrainingMaterial(settings, task)
    check_first(settings, task, accelerator.num_processes)
    if isinstance(task.collate, RegionCollator):
        if accelerator.is_main_process:  # collating only reads the features
            print("Computing region features that are not kept yet.", file=sys.stderr, flush=True)
            for examples in material.read_by_student:
                task.collate.regions.precompute(tqdm(examples, desc="regions", unit="example", disable=None))
        accelerator.wait_for_everyone()
    rows: list[dict[str, Any]] = []
    seconds = {}
    for number, method in enumerate(settings.methods, start=1):
        began = time.perf_counter()
        label = f"[{name or f'{number}/{len(settings.methods)} {method}'}]"
        rows += _run(method, settings, task, material, accelerator, label)
        accelerator.free_memory()
        seconds[method] = round(time.perf_counter() - began, 1)
    if accelerator.is_main_process:
        write_examples_page(settings, task)
        content = {
            "settings": json.loads(json.dumps(dataclasses.asdict(settings), default=str)),
            "split": task.split,
            "left_out_of_tests": {name: test.skipped for name, test in task.tests.items() if test.skipped},
            "left_out_of_unlabelled": material.left_out_of_unlabelled,
            **task.about_tests,
            **environment(),
            "seconds": seconds,
            "rows": rows,
        }
        write_atomically(settings.run_dir / "results.json", json.dumps(content, indent=2) + "\n")
    return rows


def _run(
    method: Method,
    settings: FinetuneSettings,
    task: Task,
    material: TrainingMaterial,
    accelerator: Accelerator,
    label: str,
) -> list[dict[str, Any]]:
    """Train, score and save the student of one method; `label` is what the progress bar calls it."""
    config, run_dir, collate = settings.method_config(method), settings.run_dir / method, task.collate
    torch.manual_seed(settings.seed)
    student = task.load_student()
    source, frequency = None, None
    if method == "teacher_input":
        source = load_teacher(settings.teacher, settings.pretrained, device=accelerator.device)
        student = TeacherInput(student, source.embed_dim)
        task.collate = WithTeacherImages(collate, source)
    if config.distils:
        source, frequency = _ask_teacher(method, settings, task, material, accelerator)
    torch.manual_seed(settings.seed)  # the heads start alike, however the teacher was loaded
    model = wrap(student, source if config.distils else None, config)
    model.unlabelled_weight = settings.unlabelled_weight
    result = train(
        model,
        material.training_set,
        material.batches(source, config, frequency) if config.distils else material.plain(task.collate),
        settings.training,
        run_dir=run_dir,
        evaluate=lambda model: task.scores(model, task.validation_set),
        accelerator=accelerator,
        settings=_identity(method, settings, task, source),
        description=label,
        metric_names=settings.metrics,
    )
    student = model.unwrap()
    common = {
        "method": method,
        "labelled": task.split["labelled_items"],
        "seed": settings.seed,
        "best_step": result.best_step,
    }
    rows = [{**common, "test_set": "validation", **result.best_metrics}]
    for name, dataset in task.tests.items():
        scores = task.scores(student, dataset, run_dir / f"predictions_{name}")
        rows.append({**common, "test_set": name, **scores})
    if accelerator.is_main_process:
        _save(student, collate, run_dir / "student")
        write_model_card(run_dir / "student", student, collate, settings, method, rows)
        readable_as_the_umask_says(run_dir / "student")
    task.finish(student, run_dir)
    task.collate = collate
    return rows


def _ask_teacher(
    method: Method,
    settings: FinetuneSettings,
    task: Task,
    material: TrainingMaterial,
    accelerator: Accelerator,
) -> tuple[Source, DocumentFrequency | None]:
    """The store or the live teacher that a method distils from, adapted first if the method says so."""
    teacher = load_teacher(settings.teacher, settings.pretrained, device=accelerator.device)
    shared, beside = settings.store, settings.run_dir
    if method == "adapted_teacher":
        own = {"seed": settings.seed, "resume": settings.training.resume}
        adaptation = dataclasses.replace(settings.adaptation, **own)
        folder = adapt_to_task(teacher, task, adaptation, settings.run_dir / method / "teacher", accelerator)
        teacher = load_teacher(str(folder), device=accelerator.device)
        shared, beside = None, settings.run_dir / method  # this teacher is the run's own
    # One per teacher and training set: other pictures would move the mean image, and with it the selection.
    name = f"store-{material.store_name}-{teacher.fingerprint.rpartition(':')[2][:8]}"
    config = settings.method_config(method)
    return teacher_source(settings, teacher, config, material.questions, accelerator, shared or beside / name)


def _identity(method: Method, settings: FinetuneSettings, task: Task, source: Any) -> dict[str, Any]:
    """What a run folder must agree with to be gone on with, beside the training's own settings."""
    teacher = f"{wherever(settings.teacher)} {settings.pretrained or ''}".strip()
    return {
        "method": method,
        "distillation": dataclasses.asdict(settings.method_config(method)),
        "student": wherever(settings.student),
        "teacher": None if source is None else teacher,
        "teacher_fingerprint": None if source is None else source.fingerprint,
        "split": task.split,
        "max_text_tokens": settings.max_text_tokens,
        "teacher_boxes": settings.teacher_boxes,
        "regions": settings.regions if settings.regions is None else wherever(settings.regions),
        "region_mode": settings.region_mode,
        "source": getattr(source, "identity", None),
        "unlabelled": None if settings.unlabelled is None else identity_of_files([settings.unlabelled]),
        "unlabelled_weight": settings.unlabelled_weight,
        **task.settings,
    }


def _save(student: NativeStudent, collate: PatchCollator | RegionCollator, folder: Path) -> None:
    """The student with what reads its input, a folder that transformers loads."""
    student.save_pretrained(folder)
    collate.texts.tokenizer.save_pretrained(folder)
    if isinstance(collate, PatchCollator):
        collate.image_transform.save_pretrained(folder)
    if isinstance(student, TeacherInput):
        save_tensors(folder / "teacher_input.safetensors", student.project.state_dict())
