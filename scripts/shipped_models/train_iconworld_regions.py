"""Train the classifier whose features stand for boxes in the default region student.

python scripts/shipped_models/train_iconworld_regions.py --out tasks/iconworld/models/regions
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from cliptd.training import TrainingConfig, train
from tasks.iconworld.glyphs import FAMILIES, SEEN_FAMILIES
from tasks.iconworld.making.regions import IconClassifier, IconCrops, accuracy, icon_names, save_regions


@dataclass
class TrainRegions:
    """Settings of the region classifier's training."""

    out: Path = Path("runs/iconworld_regions/regions")
    """The timm folder to write."""
    run_dir: Path = Path("runs/iconworld_regions")
    """Checkpoints and log; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=1200, batch_size=256, lr=3e-3, weight_decay=0.05, warmup_steps=100,
            eval_every=300, metric="name", save_every=300,
        )
    )  # fmt: skip


def main(settings: TrainRegions) -> None:
    torch.manual_seed(settings.training.seed)
    model = IconClassifier()
    crops = IconCrops(settings.training.steps * settings.training.batch_size, settings.training.seed)

    def evaluate(model: IconClassifier) -> dict[str, float]:
        scores = [accuracy(model, family) for family in SEEN_FAMILIES]
        return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}

    started = time.time()
    train(model, crops, crops.collate, settings.training, run_dir=settings.run_dir, evaluate=evaluate)
    save_regions(model, settings.out)
    card = {
        "data": f"single icons of {', '.join(SEEN_FAMILIES)}; {len(icon_names())} names and 8 colours",
        "training": dataclasses.asdict(settings.training),
        "seconds_in_the_last_run": round(time.time() - started),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy_percent": {family: accuracy(model, family) for family in FAMILIES},
    }
    (settings.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["accuracy_percent"], indent=2))


if __name__ == "__main__":
    main(tyro.cli(TrainRegions, description=__doc__))
