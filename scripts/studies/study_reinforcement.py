"""What a reinforced dataset gives a small model: synthetic captions, teachers' embeddings, both (MobileCLIP's claims).

Students of half the teacher's matrices, fresh, on the embedded benchmark; the protocol is that of
tasks/iconworld/studies.py. No teacher is loaded while they train.

    python scripts/studies/study_reinforcement.py --processes 2

With a second teacher also a student of both:

    python scripts/shipped_models/train_iconworld_teacher.py --seed 1 --run-dir runs/second_teacher \\
        --out runs/second_teacher/teacher
    python scripts/studies/study_reinforcement.py --processes 2 --second-teacher runs/second_teacher/teacher

With a teacher that knows more of augmented pictures (train_iconworld_teacher.py says how to make it), and without any;
then again with --lrs 1e-3:

    python scripts/studies/study_reinforcement.py --processes 2 --ways plain both strong "plain strong" \\
        --lrs 5e-4 --seeds 1 --teacher runs/augmented_teacher/teacher --out runs/study_augmented
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import tyro

from cliptd.embedding.config import Distillation
from cliptd.embedding.inheritance import share_config
from cliptd.embedding.student import fresh_like, load_student
from cliptd.reinforcement.captioner import Captioner
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.config import Reinforcement
from cliptd.reinforcement.making import reinforce
from cliptd.reinforcement.training import distil_reinforced
from cliptd.teachers import load_teacher
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.training import make_accelerator
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import CAPTIONER, TEACHER
from tasks.iconworld.studies import Study, Trained, curve_of, run_study, validation
from tasks.iconworld.study_report import Way
from tasks.low_shot.processes import process_pool

WHOLE = Reinforcement(augmentations=1, captions=2, scale=(1.0, 1.0), operations=0)
CROPS = Reinforcement(augmentations=5, captions=2, scale=(0.9, 1.0), ratio=(1.0, 1.0), operations=0)
"""The smallest crops of which the teacher still knows nearly as many as of whole pictures."""
STRONG = Reinforcement(augmentations=5, captions=2, scale=(0.5, 1.0))
"""The paper's operations and half of its crops: this teacher, which never saw such pictures, knows a tenth as many."""
DATA = {"whole": WHOLE, "crops": CROPS, "strong": STRONG, "two teachers": WHOLE}
SETTINGS = {
    "plain": ("whole", 0.0, False),
    "captions": ("whole", 0.0, True),
    "distilled": ("whole", 1.0, False),
    "both": ("whole", 1.0, True),
    "replayed": ("crops", 1.0, True),
    "ensemble": ("two teachers", 1.0, True),
    "strong": ("strong", 1.0, True),
    "plain strong": ("strong", 0.0, False),
}
"""Of each way: which data, the teacher's weight, whether synthetic captions are learned from."""
WHAT = {
    "plain": "contrastive loss of pictures and their texts",
    "captions": "and of pictures and synthetic captions",
    "distilled": "the teacher's affinities of pictures and their texts instead",
    "both": "the teacher's affinities, of texts and of synthetic captions",
    "replayed": "both, on five crops of each picture, and the teacher's embeddings of these",
    "ensemble": "both, of two teachers, each at its own scale",
    "strong": "replayed, but of smaller crops with RandAugment, which the teacher itself hardly knows",
    "plain strong": "plain, on the crops of strong, no teacher",
}
WAYS = [Way(name, WHAT[name], goal="plain") for name in SETTINGS]


@dataclass(kw_only=True)
class StudyReinforcement(Study):
    """Settings of the study."""

    MAY_CHANGE: ClassVar[tuple[str, ...]] = (*Study.MAY_CHANGE, "second_teacher")
    out: Path = Path("runs/study_reinforcement")
    """Folder of the reinforced data, the cells and the report."""
    teacher: Path | None = None
    """An open_clip folder. None: the embedded benchmark's own."""
    second_teacher: Path | None = None
    """An open_clip folder: another teacher of the embedded benchmark, for the way "ensemble". None: without it."""


def main(study: StudyReinforcement) -> None:
    ways = study.chosen([way for way in WAYS if way.name != "ensemble" or study.second_teacher is not None])
    made = list(dict.fromkeys(SETTINGS[way.name][0] for way in ways))
    with process_pool(min(study.processes, len(made))) as pool:
        list(pool.map(make_data, [study] * len(made), made))
    teacher = load_teacher(str(study.teacher or TEACHER))
    run_study(study, ways, train, title="Reinforced data on iconworld", teacher=teacher)


def make_data(study: StudyReinforcement, name: str) -> None:
    """One of the reinforced datasets; what is there of it already is kept."""
    teacher: Teacher | TeacherEnsemble = load_teacher(str(study.teacher or TEACHER))
    if name == "two teachers":
        teacher = TeacherEnsemble([teacher, load_teacher(str(study.second_teacher))])
    captioner = Captioner(str(CAPTIONER))
    reinforce(IconworldPairs(study.pairs), teacher, DATA[name], study.out / name, captioner=captioner)


def train(study: StudyReinforcement, name: str, lr: float, seed: int, steps: int, run_dir: Path) -> Trained:
    """A fresh student by one of the ways."""
    data, weight, captions = SETTINGS[name]
    training = dataclasses.replace(study.training, lr=lr, seed=seed, steps=steps)
    student = load_student(str(TEACHER))
    student = fresh_like(student, share_config(student.config["model_cfg"], 0.5), seed=seed)
    distil_reinforced(
        student,
        ReinforcedStore(study.out / data, IconworldPairs(study.pairs)),
        Distillation(
            objective="reinforced", distill_weight=weight, synthetic_captions=captions, training=training
        ),
        run_dir=run_dir / "run",
        evaluate=validation(study),
        accelerator=make_accelerator(training, run_dir),
    )
    return Trained(student, curve_of(run_dir / "run", training.batch_size))


if __name__ == "__main__":
    main(tyro.cli(StudyReinforcement, description=__doc__))
