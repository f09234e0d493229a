"""What fine-tuning asks of a task."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from tasks.batches.answered import Answered
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.students.models import NativeStudent


class Task(Protocol):
    """What `finetune` asks of a task; made of its settings and an accelerator."""

    training_set: Any
    validation_set: Any
    tests: Mapping[str, Any]
    to_answer: Mapping[str, Any]
    """Sets without labels, whose answers `finish` writes for a server."""
    split: Mapping[str, Any]
    """Of the data, for config.json and results.json; "training_hash" names the training set."""
    collate: PatchCollator | RegionCollator
    settings: Mapping[str, Any]
    """What else changes what is learned: a run folder refuses other values when it is resumed."""

    about_tests: Mapping[str, Any]
    """What results.json says of the test sets beside their scores."""

    def __init__(self, settings: Any, accelerator: Accelerator) -> None: ...

    def load_student(self) -> NativeStudent:
        """A fresh student."""

    def scores(self, model: torch.nn.Module, dataset: Any, write_to: Path | None = None) -> dict[str, Any]:
        """Numbers of a set, the validation metric among them; predictions that the task's metric reads also go to the
        file `write_to`, its suffix left to the task."""

    def answered(self, dataset: Any, written: Path, *, most: int) -> Sequence[Answered]:
        """Return examples of a set with the answers in the file that `scores` wrote to `written`.

        Args:
            most: number of examples. If the set has more, they are evenly spaced in it.
        """
        ...

    def true_of_their_images(self, dataset: Any) -> Any:
        """The examples whose text is true of the image."""

    def finish(self, student: NativeStudent, run_dir: Path) -> None:
        """What else is done with a trained student: files for a server."""
