"""Train iconworld's teacher, a small open_clip model, on scenes and captions of all icon families.

    python scripts/shipped_models/train_iconworld_teacher.py --out tasks/iconworld/models/teacher

This command made the weights that ship with the package. The card beside them holds their scores. A CPU without
bfloat16 instructions needs `--mixed-precision no`, because it is many times slower in bfloat16.

A teacher that knows more augmented images, for a control of study_reinforcement.py:

    python scripts/shipped_models/train_iconworld_teacher.py --start-from tasks/iconworld/models/teacher \\
        --augmented --steps 400 --lr 5e-4 --run-dir runs/augmented_teacher --out runs/augmented_teacher/teacher
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from cliptd.embedding.student import load_student
from cliptd.teachers.from_open_clip import save_open_clip
from cliptd.training import TrainingConfig, train
from tasks.iconworld.glyphs import FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.making.teacher import (
    AUGMENTED,
    CAPTIONS_PER_SCENE,
    ScenePairs,
    UnifiedContrastive,
    build_teacher,
    teacher_config,
    zero_shot,
)
from tasks.iconworld.making.tokenizers import teacher_tokenizer


@dataclass
class TrainTeacher:
    """Settings of the teacher's training."""

    out: Path = Path("runs/iconworld_teacher/teacher")
    """The open_clip folder to write."""
    run_dir: Path = Path("runs/iconworld_teacher")
    """Checkpoints and log; the same command resumes there."""
    start_from: Path | None = None
    """Folder of a teacher of the same kind, whose weights are trained further. None: fresh weights."""
    augmented: bool = False
    """Crop every other image to at least half of it and apply two RandAugment operations."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=1600, batch_size=256, lr=1.5e-3, weight_decay=0.1, betas=(0.9, 0.98), warmup_steps=100,
            eval_every=200, metric="mean", save_every=100, mixed_precision="bf16",
        )
    )  # fmt: skip


def main(settings: TrainTeacher) -> None:
    training = settings.training
    torch.manual_seed(training.seed)
    clip = build_teacher() if settings.start_from is None else load_student(str(settings.start_from)).model
    model = UnifiedContrastive(clip)
    policy = AUGMENTED if settings.augmented else None
    pairs = ScenePairs(training.steps * training.batch_size, training.seed, policy=policy)

    def evaluate(model: UnifiedContrastive) -> dict[str, float]:
        scores = {family: zero_shot(model.clip, family, samples=300) for family in FAMILIES}
        names = next(iter(scores.values()))
        means = {name: sum(s[name] for s in scores.values()) / len(scores) for name in names}
        return {"mean": sum(means.values()) / len(means), **means}

    started = time.time()
    begun = {"start_from": settings.start_from and str(settings.start_from), "augmented": settings.augmented}
    options = {"run_dir": settings.run_dir, "evaluate": evaluate, "settings": begun}
    result = train(model, pairs, pairs.collate, training, **options)
    save_open_clip(model.clip, settings.out, config=teacher_config(), tokenizer=teacher_tokenizer())
    samples = result.steps * training.batch_size
    card = {
        "data": f"{samples} scenes with {CAPTIONS_PER_SCENE} captions each, families {', '.join(FAMILIES)}",
        **begun,
        "unseen_by_the_student": list(UNSEEN_FAMILIES),
        "training": dataclasses.asdict(training),
        "seconds_in_the_last_run": round(time.time() - started),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "zero_shot_percent": {family: zero_shot(model.clip, family) for family in FAMILIES},
    }
    (settings.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["zero_shot_percent"], indent=2))


if __name__ == "__main__":
    main(tyro.cli(TrainTeacher, description=__doc__))
