"""The settings of fine-tuning on SNLI-VE, as commands parse them from the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from cliptd.data.identity import identity_of_files
from cliptd.training import TrainingConfig
from cliptd.utils.options import shown_default
from tasks.labelled_split import LowShotSplitWithProposals
from tasks.settings import FinetuneSettings
from tasks.snli_ve.labels import LABELS

if TYPE_CHECKING:  # imported when files are opened: a command line is parsed without datasets
    from tasks.snli_ve.data import SnliVeDataset


@dataclass(kw_only=True)
class SnliVeSplit(LowShotSplitWithProposals):
    """The data of an experiment on snli_ve_{train,dev,test}.jsonl and flickr30k_images/."""

    corrected_labels: Annotated[Path | None, shown_default("none")] = None
    """A CSV or TSV file with pairID and gold_label. Its labels replace the files' own in training and in tests."""

    def training_files(self) -> list[Path]:
        corrected = [] if self.corrected_labels is None else [self.corrected_labels]
        return [self._checked_root() / "snli_ve_train.jsonl", *corrected]

    def _checked_root(self) -> Path:
        if self.data_root is None:
            raise ValueError("data_root is None; give the folder of snli_ve_{train,dev,test}.jsonl")
        return self.data_root

    def dataset(self, split: str, annotations: Path | None = None) -> "SnliVeDataset":
        """Open one of the official files, or other annotations of the same images."""
        from tasks.snli_ve.data import IMAGES, SnliVeDataset

        root = self._checked_root()
        options = {
            "corrected_labels": self.corrected_labels,
            "on_bad_sample": self.on_bad_sample,
            "proposals": self.proposed,
        }
        if annotations is not None:
            return SnliVeDataset(annotations, root / IMAGES, **options)
        return SnliVeDataset.from_root(root, split, **options)


def training_sets(split: SnliVeSplit, seed: int) -> "tuple[SnliVeDataset, SnliVeDataset, dict[str, Any]]":
    """Return the labelled training set, the validation set and the description of the split.

    No image is in both sets. See `LowShotSplit.draw`.
    """
    everything = split.dataset("train")
    labelled, held_out, description = split.draw(
        everything.unique_ids(), everything.column("image_id"), everything.column("label"), seed
    )
    description |= {
        "training_files": identity_of_files(split.training_files()),
        "pairs_without_label": everything.without_label,
        "labels_corrected": everything.corrected,
        "bad_samples_left_out": everything.skipped,
    }
    return everything.subset(labelled), everything.subset(held_out), description


@dataclass(kw_only=True)
class FinetuneSnliVe(FinetuneSettings):
    """What to fine-tune on SNLI-VE, and how to distil."""

    task: ClassVar[str] = "SNLI-VE"

    data: tyro.conf.OmitArgPrefixes[SnliVeSplit] = field(default_factory=SnliVeSplit)
    """The data, and how much of it is labelled."""
    test_sets: tuple[str, ...] = ("dev", "test")
    """Splits of the data root, snli_ve_{NAME}.jsonl. NAME_hard holds those of its pairs that a model of the hypothesis
    alone gets wrong."""
    run_dir: Path = Path("runs/snli_ve")
    """Folder of everything that the run writes. The same command goes on there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=2000, batch_size=64, lr=5e-5, warmup_steps=200, metric="accuracy"
        )
    )

    @property
    def metrics(self) -> dict[str, str]:
        """Return the names of the accuracy and of each label's accuracy."""
        return {"accuracy": "accuracy", **{label: label for label in LABELS}}
