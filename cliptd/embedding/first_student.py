"""The student that training begins with: a named one, or one that inherits from its teacher."""

from pathlib import Path

from cliptd.data.identity import wherever
from cliptd.embedding.config import Distillation
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.student import Student, in_the_place_of, load_student
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.from_open_clip import OpenClipTeacher
from cliptd.teachers.teacher import Teacher


def named_student(
    name: str,
    pretrained: str | None,
    settings: Distillation,
    *,
    teacher: Teacher | TeacherEnsemble | None,
    shrinks: bool = False,
) -> Student:
    """Return the student of a name, as `load_student` reads it.

    With DIME-FM a student without weights gets the teacher's tower in the place of its frozen one.

    Args:
        name, pretrained: see `load_student`.
        settings: of the run that follows.
        teacher: brings the tokenizer and the preprocessing of a config that has none.
        shrinks: If true, stages inherit from this student, so it needs weights.

    Raises:
        ValueError: the student must shrink and has no weights; and as `load_student` and `in_the_place_of`.
    """
    seed = settings.training.seed
    single = teacher if isinstance(teacher, OpenClipTeacher) else None
    student = load_student(name, pretrained, teacher=single, seed=seed)
    if shrinks and student.fresh:
        raise ValueError(
            f"the student {name} has no weights, and progressive stages inherit the first student's; name one with "
            "weights, or none to begin with the teacher"
        )
    if settings.takes_the_place and student.fresh:
        if teacher is None:
            raise ValueError(
                "with DIME-FM the student takes the place of a teacher, and there is none; name one"
            )
        return in_the_place_of(teacher, student, settings.learning, seed=seed)
    return student


def inheriting_student(
    teacher: str, pretrained: str | None, settings: Distillation, *, share: float | None
) -> Student:
    """Return the student that inherits a share of the matrices of an open_clip teacher's towers.

    A tower that the settings freeze is inherited whole.

    Args:
        teacher, pretrained: as for `cliptd.load_teacher`.
        share: above 0 to 1. None: the student is the whole teacher, which stages shrink.

    Raises:
        ValueError: the teacher is an ensemble or a transformers model; and as `load_student`, `share_config` and
            `inherit_weights`.
    """
    if teacher.startswith("hf:") or ("," in teacher and not Path(teacher).exists()):
        raise ValueError(f"{teacher} is no single open_clip model to inherit from; name a student")
    whole = load_student(teacher, pretrained)
    if share is None:
        return whole
    config = share_config(whole.config["model_cfg"], share, towers=settings.learning)
    return Student(
        inherit_weights(whole.model, config, settings.how),
        {**whole.config, "model_cfg": config},
        whole.tokenizer,
        f"{share:g} of {wherever(whole.name)}",
    )
