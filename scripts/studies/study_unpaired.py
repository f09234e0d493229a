"""What images and sentences that never met can teach (DIME-FM's claims), against pairs and against the teacher.

A fresh image tower of half the teacher's beside the teacher's text tower, or both towers, on the embedded benchmark;
the protocol is that of tasks/iconworld/studies.py. The pictures are those of the pairs, the sentences are about other
scenes.

    python scripts/studies/study_unpaired.py --processes 2
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil
from cliptd.embedding.inheritance import share_config
from cliptd.embedding.loss_weights import DimeFm
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.student import in_the_place_of, load_student
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from cliptd.unpaired.images_and_sentences import ImagesOf, TextsOf, UnpairedPairs
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import TEACHER
from tasks.iconworld.studies import Study, Trained, curve_of, run_study, validation
from tasks.iconworld.study_report import Way

IMAGE_TOWER: dict[str, Any] = {"objective": "dime-fm", "freeze": ("text",)}
TEXT_TOWER: dict[str, Any] = {"objective": "dime-fm", "freeze": ("image",)}
STAGES: dict[str, list[dict[str, Any]]] = {
    "pairs": [{"objective": "contrastive", "freeze": ("text",)}],
    "unpaired": [IMAGE_TOWER],
    "without vl": [{**IMAGE_TOWER, "dime_fm": DimeFm(vl_weight=0.0)}],
    "without pvl": [{**IMAGE_TOWER, "dime_fm": DimeFm(pvl_weight=0.0)}],
    "with udist": [{**IMAGE_TOWER, "dime_fm": DimeFm(udist_weight=0.3)}],
    "both towers": [{"objective": "dime-fm"}],
    "tower after tower": [IMAGE_TOWER, TEXT_TOWER],
}
"""Of each way, one after the other: the next one's teacher is the model that the last one made."""
WHAT = {
    "pairs": "contrastive loss of pairs, no teacher but its text tower",
    "unpaired": "DIME-FM of unpaired pictures and sentences, weights 0.7, 0.3 and 0",
    "without vl": "without sentences: pictures against pictures only",
    "without pvl": "without the teacher's pictures in the place of sentences",
    "with udist": "with the third loss, weight 0.3",
    "both towers": "both towers fresh and half the teacher's, roles swapped for the text tower",
    "tower after tower": "the same two towers, the image tower on half the pictures, then the text tower beside it",
}
WAYS = [Way(name, WHAT[name], goal="pairs") for name in STAGES]


@dataclass(kw_only=True)
class StudyUnpaired(Study):
    """Settings of the study."""

    out: Path = Path("runs/study_unpaired")
    """Folder of the teacher's embeddings, the cells and the report."""
    linear_probe: bool = True
    """Fit and test linear probes, too."""


def main(study: StudyUnpaired) -> None:
    teacher = load_teacher(str(TEACHER))
    store_pairs(study.out / "store", teacher, OpenedPairs(_data(study, "unpaired")))
    run_study(study, WAYS, train, title="Unpaired distillation on iconworld", teacher=teacher)


def train(study: StudyUnpaired, name: str, lr: float, seed: int, steps: int, run_dir: Path) -> Trained:
    """A fresh image tower, or both towers, by one of the ways."""
    stages = STAGES[name]
    training = dataclasses.replace(study.training, lr=lr, seed=seed, steps=steps // len(stages))
    teacher, half = load_teacher(str(TEACHER)), load_student(str(TEACHER))
    taught = {} if name == "pairs" else {"source": "store", "store": study.out / "store"}
    for number, stage in enumerate(stages, start=1):
        stage_dir = run_dir / f"stage{number}"
        settings = Distillation(**stage, **taught, training=training)
        config = share_config(half.config["model_cfg"], 0.5, towers=settings.learning)
        small = dataclasses.replace(half, config={**half.config, "model_cfg": config})
        student = in_the_place_of(teacher, small, settings.learning, seed=seed)
        distil(
            student,
            teacher,
            _data(study, name),
            settings,
            run_dir=stage_dir / "run",
            evaluate=validation(study),
            accelerator=make_accelerator(training, stage_dir),
        )
        teacher = load_teacher(str(student.save(stage_dir / "model")))
        taught = {"source": "store"}  # this teacher's own
    before = (steps - training.steps) * training.batch_size
    return Trained(student, curve_of(stage_dir / "run", training.batch_size, before))


def _data(study: StudyUnpaired, name: str) -> Sequence[Pair]:
    pairs = IconworldPairs(study.pairs)
    if name == "pairs":
        return pairs
    return UnpairedPairs(ImagesOf(pairs), TextsOf(IconworldPairs(study.pairs, seed=1)))


if __name__ == "__main__":
    main(tyro.cli(StudyUnpaired, description=__doc__))
