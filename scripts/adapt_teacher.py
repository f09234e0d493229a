"""Fine-tune a CLIP teacher contrastively on VCR's own images and right choices; saves an open_clip folder.

accelerate launch scripts/adapt_teacher.py --teacher ViT-L-14 --pretrained openai \
    --annotations vcr1/train.jsonl --images vcr1/vcr1images --out teachers/vcr

The right choices of every line of --annotations are learned from. For a low-shot or held-out-movies comparison give it
a file of that split's training items only: the teacher would otherwise carry the other labels over to the student.
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cliptd.adaptation import Pair, adapt_teacher, adaptation_defaults, save_open_clip
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator
from tasks.vcr.data import VcrDataset
from tasks.vcr.names import render


@dataclass
class AdaptTeacher:
    """Settings of one adaptation."""

    annotations: Path
    """Training items: a VCR jsonl file with labels."""
    images: Path
    """Folder of the images and their metadata (vcr1images)."""
    out: Path
    """Where the adapted open_clip folder goes; its log and checkpoints go to OUT/run."""
    teacher: str = "ViT-L-14"
    """open_clip model name, or a local open_clip folder."""
    pretrained: str | None = None
    """The name's pretrained tag, or a checkpoint file."""
    validation: Path | None = None
    """Items that choose the best weights by recall@1; none: the last weights."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(default_factory=adaptation_defaults)


class VcrPairs:
    """Each right choice (answer, rationale) with its image, in the words that the teacher reads."""

    def __init__(self, annotations: Path, images: Path):
        self.dataset = VcrDataset(annotations, images, tasks="both", classes=None)

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
    validation = () if settings.validation is None else VcrPairs(settings.validation, settings.images)
    adapted = adapt_teacher(
        teacher,
        VcrPairs(settings.annotations, settings.images),
        settings.training,
        run_dir=settings.out / "run",
        validation=validation,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        print(save_open_clip(adapted, settings.out))


if __name__ == "__main__":
    main(tyro.cli(AdaptTeacher, description=__doc__))
