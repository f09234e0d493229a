"""Train the captioner that writes iconworld's synthetic captions: a decoder on the shipped teacher's image tower.

python scripts/shipped_models/train_iconworld_captioner.py --out tasks/iconworld/models/captioner
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

from cliptd.reinforcement.captioner import Captioner
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, train
from tasks.iconworld.glyphs import FAMILIES
from tasks.iconworld.making.captioner import CaptionedScenes, build_captioner, faithfulness, save_captioner
from tasks.iconworld.models import TEACHER


@dataclass
class TrainCaptioner:
    """Settings of the captioner's training."""

    out: Path = Path("runs/iconworld_captioner/captioner")
    """The transformers folder to write."""
    run_dir: Path = Path("runs/iconworld_captioner")
    """Checkpoints and log; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=1500, batch_size=64, lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98), warmup_steps=150,
            eval_every=0, save_every=200,
        )
    )  # fmt: skip


def main(settings: TrainCaptioner) -> None:
    training = settings.training
    torch.manual_seed(training.seed)
    model = build_captioner(load_teacher(str(TEACHER)).model)
    scenes = CaptionedScenes(training.steps * training.batch_size, training.seed)
    started = time.time()
    train(model, scenes, scenes.collate, training, run_dir=settings.run_dir)
    save_captioner(model, settings.out)
    captioner = Captioner(str(settings.out))
    card = {
        "data": f"{len(scenes)} scenes with a caption each, families {', '.join(FAMILIES)}",
        "encoder": "the shipped teacher's picture tower",
        "training": dataclasses.asdict(training),
        "seconds_in_the_last_run": round(time.time() - started),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "of_what_captions_name_percent": {family: faithfulness(captioner, family) for family in FAMILIES},
    }
    (settings.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card["of_what_captions_name_percent"], indent=2))


if __name__ == "__main__":
    main(tyro.cli(TrainCaptioner, description=__doc__))
