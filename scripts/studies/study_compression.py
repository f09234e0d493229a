"""How a small dual encoder is best had: trained alone, distilled, inherited, masked or in stages (TinyCLIP's claims).

Students of a half and of a quarter of the teacher's matrices on the embedded benchmark, each way with the same number
of training pairs in all its stages; the protocol is that of tasks/iconworld/studies.py.

    python scripts/studies/study_compression.py --processes 2
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import tyro

from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.compression import compress
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.student import Student, fresh_like, load_student
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import TEACHER
from tasks.iconworld.studies import Study, Trained, curve_of, run_study, validation
from tasks.iconworld.study_report import Way

WHAT = {
    "scratch": "fresh weights, contrastive loss, no teacher",
    "distilled": "fresh weights, affinity mimicking",
    "inherited": "the teacher's leading channels and evenly spaced layers, affinity mimicking",
    "masks": "masks learned over half the pairs, pruned, affinity mimicking over the other half",
    "stages": "inherited at twice the share, then at the share, half of the pairs each, affinity mimicking",
}
SHARES = {0.5: ("scratch", "distilled", "inherited", "masks"), 0.25: ("scratch", "inherited", "stages")}
WAYS = [
    Way(
        f"{way} {share:g}", WHAT[way], goal=f"scratch {share:g}", panel=f"{share:g} of the teacher's matrices"
    )
    for share, ways in SHARES.items()
    for way in ways
]


@dataclass(kw_only=True)
class StudyCompression(Study):
    """Settings of the study."""

    out: Path = Path("runs/study_compression")
    """Folder of the cells and of the report."""


def main(study: StudyCompression) -> None:
    teacher = load_teacher(str(TEACHER))
    store_pairs(study.out / "store", teacher, OpenedPairs(IconworldPairs(study.pairs)))
    run_study(study, WAYS, train, title="Compression on iconworld", teacher=teacher)


def train(study: StudyCompression, name: str, lr: float, seed: int, steps: int, run_dir: Path) -> Trained:
    """A student by one of the ways."""
    way, share = name.split()[0], float(name.split()[1])
    teacher, student = load_teacher(str(TEACHER)), load_student(str(TEACHER))
    parts = 2 if way in ("masks", "stages") else 1
    training = dataclasses.replace(study.training, lr=lr, seed=seed, steps=steps // parts)
    taught = {"objective": "affinity", "source": "store", "store": study.out / "store"}
    settings = Distillation(
        **({"objective": "contrastive"} if way == "scratch" else taught),
        mask_lr=0.1,
        ramp_steps=training.steps // 2,
        training=training,
    )
    options = {"evaluate": validation(study), "accelerator": make_accelerator(training, run_dir)}
    pairs = IconworldPairs(study.pairs)
    if parts == 1:
        student = _shrunk(student, share, inherits=way == "inherited", seed=seed)
        distil(student, teacher, pairs, settings, run_dir=run_dir / "run", **options)
        return Trained(student, curve_of(run_dir / "run", training.batch_size))
    shares, masked = ((share,), True) if way == "masks" else ((2 * share, share), False)
    compress(student, teacher, pairs, settings, shares, learned_masks=masked, run_dir=run_dir, **options)
    last = run_dir / f"stage-{share:g}"
    before = (steps - training.steps) * training.batch_size
    return Trained(load_student(str(last / "model")), curve_of(last / "run", training.batch_size, before))


def _shrunk(student: Student, share: float, *, inherits: bool, seed: int) -> Student:
    """The student at the share's size, with the teacher's weights or fresh ones."""
    config = share_config(student.config["model_cfg"], share)
    if not inherits:
        return fresh_like(student, config, seed=seed)
    model = inherit_weights(student.model, config)
    return dataclasses.replace(student, model=model, config={**student.config, "model_cfg": config})


if __name__ == "__main__":
    main(tyro.cli(StudyCompression, description=__doc__))
