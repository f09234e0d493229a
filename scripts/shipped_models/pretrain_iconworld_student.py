"""Pre-train the default student, a small VisualBERT, on captions of a quarter of iconworld's concepts.

    python scripts/shipped_models/pretrain_iconworld_student.py --out tasks/iconworld/models/student

A CPU without bfloat16 instructions needs `--mixed-precision no`, because it is many times slower in bfloat16.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import tyro

from cliptd.training import TrainingConfig, train
from tasks.batches.region_features import RegionFeatures
from tasks.iconworld.glyphs import CONCEPTS, SEEN_FAMILIES
from tasks.iconworld.making.student import (
    PRETRAINED_CONCEPTS,
    CaptionedScenes,
    build_student,
    matching_accuracy,
    tokenizer,
)
from tasks.iconworld.models import REGIONS


@dataclass
class PretrainStudent:
    """Settings of the student's pre-training."""

    out: Path = Path("runs/iconworld_student/student")
    """Transformers folder to write."""
    run_dir: Path = Path("runs/iconworld_student")
    """Checkpoints and log; the same command resumes there."""
    regions: str = f"local-dir:{REGIONS}"
    """The region backbone: a timm model name or local-dir:FOLDER."""
    pool: int = 20_000
    """Scenes whose region features are computed once. Their captions are new in every batch."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=1500, batch_size=256, lr=1e-3, weight_decay=0.05, warmup_steps=200,
            eval_every=250, metric="match", save_every=250, mixed_precision="bf16",
        )
    )  # fmt: skip


def main(settings: PretrainStudent) -> None:
    training = settings.training
    torch.manual_seed(training.seed)
    regions = RegionFeatures(settings.regions, memory=0, batch_size=256)
    model = build_student(regions.dim)
    samples = training.steps * training.batch_size
    data = CaptionedScenes(samples, training.seed, regions, pool=settings.pool, concepts=PRETRAINED_CONCEPTS)
    fresh = CaptionedScenes(2000, training.seed + 1, regions, pool=2000, concepts=PRETRAINED_CONCEPTS)
    new = np.setdiff1d(np.arange(len(CONCEPTS)), PRETRAINED_CONCEPTS)
    unknown = CaptionedScenes(2000, training.seed + 2, regions, pool=2000, concepts=new)

    def evaluate(model: torch.nn.Module) -> dict[str, float]:
        scores = {f"new_{k}": v for k, v in matching_accuracy(model, unknown).items()}
        return matching_accuracy(model, fresh) | scores

    started = time.time()
    result = train(model, data, data.collate, training, run_dir=settings.run_dir, evaluate=evaluate)
    model.save_pretrained(settings.out)
    tokenizer().save_pretrained(settings.out)
    card = {
        "data": f"{samples} captions of {settings.pool} scenes, families {', '.join(SEEN_FAMILIES)}",
        "concepts": [CONCEPTS[c] for c in PRETRAINED_CONCEPTS],
        "training": dataclasses.asdict(training),
        "seconds_in_the_last_run": round(time.time() - started),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy_percent": result.best_metrics,
    }
    (settings.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["accuracy_percent"], indent=2))


if __name__ == "__main__":
    main(tyro.cli(PretrainStudent, description=__doc__))
