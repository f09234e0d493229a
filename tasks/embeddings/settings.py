"""The settings of distill_embeddings.py, and the rule of each that has an effect beside certain others only."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from cliptd.embedding.config import Distillation, tiny_clip_training
from cliptd.teachers.precision import Precision
from cliptd.training import TrainingConfig
from cliptd.utils.effects import Effect, refuse_without_effect
from cliptd.utils.options import shown_default
from tasks.iconworld.models import TEACHER


@dataclass(kw_only=True)
class DistillEmbeddings(Distillation):
    """All settings of distill_embeddings.py: who learns from whom, on what.

    Raises:
        ValueError: a value is out of range, two settings contradict each other, or one has no effect.
    """

    teacher: Annotated[str | None, shown_default("the embedded benchmark's, on its own data")] = None
    """The name of an open_clip model, the path of an open_clip folder, hf-hub: and the id of an open_clip model, or
    hf: and the id or folder of a transformers CLIP. Several joined by commas are an ensemble."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """open_clip's tag of the teacher's weights."""
    precision: Precision = "fp32"
    """Numbers that the teacher computes with."""
    student: Annotated[str | None, shown_default("one that inherits from the teacher")] = None
    """The name of an open_clip model, the path of an open_clip folder, or a .json config. Without weights it starts
    fresh."""
    student_pretrained: Annotated[str | None, shown_default("none, a named model starts fresh")] = None
    """open_clip's tag of the student's weights."""
    share: Annotated[float | None, shown_default("0.5")] = None
    """Share of the teacher's matrices that a student inherits if none is named."""
    progressive: Annotated[tuple[float, ...], tyro.conf.arg(aliases=["--shares"])] = ()
    """Shares of the first student's matrices in each stage, descending. The first student is --student or the
    teacher."""
    learned_masks: bool = False
    """Before each stage, learn in as many steps which channels, heads and units stay."""
    data: Annotated[str | None, shown_default("the embedded benchmark")] = None
    """Pairs: shards ('data/{000..099}.tar'), a .csv or .tsv, a folder, or a table."""
    csv_img_key: str = "filepath"
    """Column of image paths (or images)."""
    csv_caption_key: str = "title"
    """Column of texts, also the key in a shard's .json."""
    csv_separator: Annotated[str | None, shown_default("a tab for .tsv, else a comma")] = None
    """Separator of a .csv or .tsv."""
    reinforced: Annotated[Path | None, shown_default("--data are reinforced shards")] = None
    """Folder that reinforce_dataset.py wrote beside the data."""
    pictures: Annotated[Path | None, shown_default("the shards hold images and texts")] = None
    """Folder of KEY.jpg and KEY.txt for public shards (DataCompDR), which hold no images and texts."""
    images: Annotated[str | None, shown_default("none, pairs are read")] = None
    """Images instead of pairs: a folder or shards."""
    sentences: Annotated[str | None, shown_default("none, pairs are read")] = None
    """Sentences beside --images: text files with one a line ('corpus/*.txt.gz'), or shards."""
    zero_shot: Annotated[
        Path | None, shown_default("the embedded benchmark's own on its data, else the last step is kept")
    ] = None
    """Folder with a folder of images for each class. They score the steps, and the best one is kept."""
    templates: Annotated[Path | None, shown_default("seven general ones")] = None
    """Prompt templates for --zero-shot, one a line, with "{}" in the place of the class name."""
    run_dir: Path = Path("runs/distill_embeddings")
    """Folder of everything that the run writes. The model is in RUN_DIR/model. The same command goes on there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(default_factory=tiny_clip_training)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_contradictions()
        refuse_without_effect(self, EFFECTS)
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, expected above 0 to 1")
        if not self.on_iconworld and self.zero_shot is None:  # nothing says which step is the best
            every = self.training.eval_every if self.learned_masks else 0  # masks report how sparse they are
            self.training = dataclasses.replace(self.training, metric=None, eval_every=every)

    def _refuse_contradictions(self) -> None:
        """Refuse settings of which one needs another, or excludes it."""
        if (self.images is None) != (self.sentences is None):
            raise ValueError("give --images and --sentences both, or neither")
        if self.images is not None and self.data is not None:
            raise ValueError("give pairs (--data), or --images and --sentences, not both")
        if self.on_iconworld and self.zero_shot is not None:
            raise ValueError(
                "--zero-shot goes with data of your own; the embedded benchmark has its own images"
            )
        if self.teacher_name is None and self.student is None:
            raise ValueError("name a --teacher, or a --student that does not inherit from one")
        if self.teacher_name is None and self.mix is not None and self.mix.needs_teacher:
            raise ValueError(f"name a --teacher: {self.objective} compares the student with one")
        if self.mix is None and self.data is None and self.reinforced is None:
            raise ValueError(
                "the reinforced objective needs --reinforced, such as runs/reinforced, which reinforce_dataset.py "
                "wrote, or --data that are public shards"
            )

    @property
    def teacher_name(self) -> str | None:
        """Return the name of the teacher, or None if there is none."""
        return str(TEACHER) if self.teacher is None and self.on_iconworld else self.teacher

    @property
    def on_iconworld(self) -> bool:
        """Return whether the user gave no data."""
        return self.data is None and self.images is None


def _inherits_by_size(asked: DistillEmbeddings) -> bool:
    """Return whether a student inherits the layers and channels that --how chooses."""
    return not asked.learned_masks and (asked.student is None or bool(asked.progressive))


EFFECTS: dict[str, Effect] = {
    "reinforced": Effect("the reinforced objective", lambda asked: asked.mix is None),
    "pictures": Effect(
        "public shards of the reinforced objective, without --reinforced",
        lambda asked: asked.mix is None and asked.reinforced is None,
    ),
    "teacher": Effect(
        "runs whose student learns or inherits from a teacher",
        lambda asked: asked.mix is not None or asked.student is None,
    ),
    "pretrained": Effect("--teacher", lambda asked: asked.teacher is not None),
    "student_pretrained": Effect("--student", lambda asked: asked.student is not None),
    "towers": Effect("stages (--progressive)", lambda asked: bool(asked.progressive)),
    "images": Effect("losses other than the reinforced one", lambda asked: asked.mix is not None),
    "progressive": Effect("losses other than the reinforced one", lambda asked: asked.mix is not None),
    "learned_masks": Effect("stages (--progressive)", lambda asked: bool(asked.progressive)),
    "how": Effect("students that inherit, and to stages without --learned-masks", _inherits_by_size),
    "share": Effect(
        "students that inherit, without stages", lambda asked: not asked.progressive and asked.student is None
    ),
    "templates": Effect("--zero-shot", lambda asked: asked.zero_shot is not None),
}
"""Where each setting of the command has an effect, if it is not everywhere; `Distillation` has rules of its own."""
