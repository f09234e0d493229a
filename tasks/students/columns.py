"""The columns of a batch that a student reads to predict."""

from collections.abc import Callable, Sequence
from typing import Any

NOT_READ = ("labels", "distillation_inputs")


def student_columns(
    collate: Callable[[Sequence[Any]], dict[str, Any]], examples: Sequence[Any]
) -> dict[str, Any]:
    """Return the batch of the examples without labels and without anything that is the teacher's."""
    batch = collate(examples)
    return {
        name: value
        for name, value in batch.items()
        if name not in NOT_READ and not name.startswith("teacher_")
    }
