"""Fine-tune a CLIP teacher contrastively on VCR's own images and right choices; saves an open_clip folder.

Takes finetune_vcr.py's data options and learns from the very items that run has labels for, no others. Without
--data-root: iconworld and its teacher.

    accelerate launch scripts/adapt_teacher.py --data-root vcr1 --fraction 0.01 --seed 0 \\
        --teacher ViT-L-14 --pretrained openai --out teachers/vcr
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from accelerate import PartialState

from cliptd.adaptation import Pair, adapt_teacher, adaptation_defaults, save_open_clip
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator
from tasks.iconworld.defaults import names_data_root, vcr_root, vcr_settings, with_data
from tasks.iconworld.models import TEACHER
from tasks.vcr.data import VcrDataset
from tasks.vcr.names import render
from tasks.vcr.split import VcrSplit, training_sets


@dataclass
class AdaptTeacher:
    """Settings of one adaptation."""

    out: Path
    """Where the adapted open_clip folder goes; its log and checkpoints go to OUT/run."""
    data: tyro.conf.OmitArgPrefixes[VcrSplit] = field(default_factory=VcrSplit)
    teacher: str = "ViT-L-14"
    """open_clip model name, or a local open_clip folder."""
    pretrained: str | None = None
    """The name's pretrained tag, or a checkpoint file."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(default_factory=adaptation_defaults)


class VcrPairs:
    """Each right choice (answer, rationale) with its image, in the words that the teacher reads."""

    def __init__(self, dataset: VcrDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Pair:
        example = self.dataset[index]
        if example.label is None:
            raise ValueError(f"{example.item.where}: no label; adaptation needs the training file")
        names = example.item.names
        text = render(example.choices[example.label], objects=example.item.objects, names=names)
        return Pair(example.item.img_fn, example.image, text.worded.teacher_text)


def main(settings: AdaptTeacher) -> None:
    accelerator = make_accelerator(settings.training, settings.out / "run")
    teacher = load_teacher(settings.teacher, settings.pretrained)
    labelled, validation, _ = training_sets(settings.data, settings.training.seed)
    adapted = adapt_teacher(
        teacher,
        VcrPairs(labelled),
        settings.training,
        run_dir=settings.out / "run",
        validation=VcrPairs(validation),
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        print(save_open_clip(adapted, settings.out))


if __name__ == "__main__":
    own_data = names_data_root(sys.argv)
    embedded = AdaptTeacher(out=Path("runs/adapted_teacher"), data=vcr_settings().data, teacher=str(TEACHER))
    parsed = tyro.cli(AdaptTeacher, default=None if own_data else embedded, description=__doc__)
    if not own_data:
        with PartialState().main_process_first():
            parsed = with_data(parsed, data_root=vcr_root())
    main(parsed)
