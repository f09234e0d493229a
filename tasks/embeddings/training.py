"""The training of distill_embeddings.py: everything is checked, then the student is trained, scored and saved."""

import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator

from cliptd.data.identity import identity_of, wherever
from cliptd.data.images import open_image
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.compression import compress
from cliptd.embedding.distillation import distil
from cliptd.embedding.first_student import inheriting_student, named_student
from cliptd.embedding.model_card import write_model_card
from cliptd.embedding.student import Student, load_student
from cliptd.evaluation.embeddings import DualEncoder
from cliptd.evaluation.zero_shot import zero_shot
from cliptd.reinforcement.training import distil_reinforced
from cliptd.teachers import load_teacher
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.training import TrainingResult, make_accelerator
from cliptd.utils.environment import environment
from cliptd.utils.files import write_atomically
from tasks.embeddings.data import ZeroShotData, reinforced_data, training_pairs, zero_shot_data
from tasks.embeddings.results import METRIC_NAMES
from tasks.embeddings.settings import DistillEmbeddings
from tasks.iconworld.models import TEACHER

SHOWN = ("top1", "top5", "mean_per_class")
DEFAULT_SHARE = 0.5


def train(asked: DistillEmbeddings) -> list[dict[str, Any]]:
    """Train a student, save it in `run_dir`/model, and return a row of results for each model, the teacher's first.

    Raises:
        ValueError, OSError: before anything is trained, if data, templates, student or teacher cannot be read.
    """
    began = time.perf_counter()
    accelerator = make_accelerator(asked.training, asked.run_dir)
    scored_on = zero_shot_data(asked)
    _check_first_image(scored_on, asked)
    made = (
        _reinforced(asked, scored_on, accelerator)
        if asked.mix is None
        else _taught(asked, scored_on, accelerator)
    )
    if accelerator.is_main_process:
        _save(made, asked, seconds=time.perf_counter() - began)
    return made.rows


@dataclasses.dataclass
class Made:
    """A trained student, and what its card says about it.

    data: the identity of the training data.
    """

    student: Student
    starts_from: str
    teachers: list[str]
    rows: list[dict[str, Any]]
    data: str


def _reinforced(asked: DistillEmbeddings, scored_on: ZeroShotData | None, accelerator: Accelerator) -> Made:
    dataset, student = reinforced_data(asked), _first_student(asked)
    starts_from = _starts_from(student)
    _announce(asked, student, len(dataset), accelerator)
    result = distil_reinforced(
        student, dataset, asked, run_dir=asked.run_dir / "run", evaluate=_evaluation(scored_on, asked),
        accelerator=accelerator, metric_names=METRIC_NAMES,
    )  # fmt: skip
    teachers = [card.name for card in dataset.card.teachers]
    return Made(student, starts_from, teachers, [_row(student, result)], identity_of(dataset))


def _taught(asked: DistillEmbeddings, scored_on: ZeroShotData | None, accelerator: Accelerator) -> Made:
    pairs, teacher, rows = training_pairs(asked), None, []
    _check_first_pair(pairs, asked)
    if asked.teacher_name is not None:
        teacher = load_teacher(
            asked.teacher_name, asked.pretrained, device=accelerator.device, precision=asked.precision
        )
    student, evaluate = _first_student(asked, teacher), _evaluation(scored_on, asked)
    starts_from = _starts_from(student)
    _announce(asked, student, len(pairs), accelerator)
    if teacher is not None and accelerator.is_main_process:
        parameters = sum(p.numel() for member in teacher.members for p in member.model.parameters())
        name = f"teacher {wherever(teacher.name)}"
        rows.append({"model": name, "parameters": parameters, **evaluate(teacher)})
    if asked.progressive:
        stages = compress(
            student, teacher, pairs, asked, asked.progressive, learned_masks=asked.learned_masks,
            run_dir=asked.run_dir, evaluate=evaluate, accelerator=accelerator, metric_names=METRIC_NAMES,
        )  # fmt: skip
        rows += [{"model": f"stage {row['share']:g}", **row} for row in stages]
        student = load_student(str(asked.run_dir / f"stage-{asked.progressive[-1]:g}" / "model"))
    else:
        result = distil(
            student, teacher, pairs, asked, run_dir=asked.run_dir / "run", evaluate=evaluate,
            accelerator=accelerator, metric_names=METRIC_NAMES,
        )  # fmt: skip
        rows.append(_row(student, result))
    teachers = [] if teacher is None else [member.name for member in teacher.members]
    return Made(student, starts_from, teachers, rows, identity_of(pairs))


def _first_student(asked: DistillEmbeddings, teacher: Teacher | TeacherEnsemble | None = None) -> Student:
    if asked.student is not None:
        shrinks = bool(asked.progressive)
        return named_student(asked.student, asked.student_pretrained, asked, teacher=teacher, shrinks=shrinks)
    share = None if asked.progressive else (DEFAULT_SHARE if asked.share is None else asked.share)
    return inheriting_student(str(asked.teacher_name), asked.pretrained, asked, share=share)


def _starts_from(student: Student) -> str:
    return "fresh weights" if student.fresh else student.name


def _announce(asked: DistillEmbeddings, student: Student, examples: int, accelerator: Accelerator) -> None:
    """Say who learns from whom, on what and for how long."""
    objective = " + ".join(_losses(asked))
    taught = ""
    if asked.mix is None:
        taught = ", taught by stored embeddings"
    elif asked.mix.needs_teacher:
        own = asked.teacher_name == str(TEACHER)
        teacher = "the embedded benchmark's teacher" if own else wherever(str(asked.teacher_name))
        taught = f", taught by {teacher}"
    steps = f"{asked.training.steps} steps of {asked.training.batch_size}"
    if asked.progressive:
        steps += f" in each of {len(asked.progressive)} stages"
    start = " with fresh weights" if student.fresh else ""
    accelerator.print(
        f"Student {wherever(student.name)}{start} ({student.parameters / 1e6:,.1f} million parameters){taught}; "
        f"{objective} on {examples:,} examples, {steps}"
    )


def _check_first_image(scored_on: ZeroShotData | None, asked: DistillEmbeddings) -> None:
    if scored_on is not None and asked.on_bad_sample == "raise":
        for dataset in scored_on.sets.values():
            dataset.images[0]()


def _check_first_pair(pairs: MapStyle[Pair], asked: DistillEmbeddings) -> None:
    if not len(pairs):
        raise ValueError(f"the data {asked.data or asked.images} hold no example; look at the path")
    if asked.on_bad_sample == "raise":
        open_image(pairs[0].image)


def _evaluation(
    scored_on: ZeroShotData | None, asked: DistillEmbeddings
) -> Callable[[DualEncoder], dict[str, float]]:
    """Return a function that scores a model zero-shot, in percent; without data it returns no score."""

    def evaluate(model: DualEncoder) -> dict[str, float]:
        found: dict[str, float] = {}
        if scored_on is None:
            return found
        for ending, dataset in scored_on.sets.items():
            scores = zero_shot(model, dataset, scored_on.templates, on_bad_sample=asked.on_bad_sample)
            found |= {name + ending: scores[name] for name in SHOWN if name in scores}
        return found

    return evaluate


def _row(student: Student, result: TrainingResult) -> dict[str, Any]:
    row = {"model": student.name, "parameters": student.parameters, "best_step": result.best_step}
    return {**row, **result.best_metrics}


def _losses(asked: DistillEmbeddings) -> list[str]:
    if asked.mix is None:
        return ["reinforced"]
    return [name for name, weight in vars(asked.mix).items() if weight]


def _name_of_scores(asked: DistillEmbeddings) -> str | None:
    if asked.on_iconworld:
        return "iconworld"
    return None if asked.zero_shot is None else asked.zero_shot.name


def _save(made: Made, asked: DistillEmbeddings, *, seconds: float) -> None:
    """Save the model with its card, and results.json with what it was made with."""
    folder = made.student.save(asked.run_dir / "model")
    steps = f"{asked.training.steps} steps of {asked.training.batch_size} examples"
    if asked.progressive:
        steps += f" in each stage, shares {', '.join(f'{share:g}' for share in asked.progressive)}"
        steps += " (and as many again for its masks)" if asked.learned_masks else ""
    named = [name for name in (asked.data, asked.images, asked.sentences) if name is not None]
    settings = json.loads(json.dumps(dataclasses.asdict(asked), default=str))
    write_model_card(
        folder,
        made.student,
        name=made.student.name,
        starts_from=made.starts_from,
        teachers=made.teachers if asked.mix is None or asked.mix.needs_teacher else [],
        losses=_losses(asked),
        data=named or ["iconworld"],
        training=steps,
        scores=made.rows,
        scored_on=_name_of_scores(asked),
        settings={**settings, "teacher": ", ".join(made.teachers)},
    )
    results = {
        "settings": settings,
        "teachers": made.teachers,
        "data": made.data,
        **environment(),
        "seconds": round(seconds, 1),
        "rows": made.rows,
    }
    write_atomically(asked.run_dir / "results.json", json.dumps(results, indent=2) + "\n")
