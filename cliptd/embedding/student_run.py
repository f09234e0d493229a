"""One training run of a student, with the samples that cannot be read listed and the masks' sparsity logged."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import nn

from cliptd.data.bad_samples import BadSampleList
from cliptd.data.map_style import MapStyle
from cliptd.embedding.distiller import StudentInTraining
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder
from cliptd.embedding.student import Student
from cliptd.training import TrainingConfig, TrainingResult, train
from cliptd.utils.files import write_atomically

Evaluate = Callable[[Student], dict[str, float]]
"""Returns the metrics of a student."""


class ListingCollator(Protocol):
    """A collator that turns examples into the columns of a batch and lists unreadable ones in `bad_samples`."""

    bad_samples: BadSampleList

    def __call__(self, examples: Sequence[Any], /) -> dict[str, Any]:
        """Return the columns of a batch."""


def train_student(
    model: StudentInTraining,
    student: Student,
    examples: MapStyle[Any],
    collate: ListingCollator,
    training: TrainingConfig,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
    settings: dict[str, Any],
    parameter_groups: Iterable[dict[str, Any]] | None = None,
    bad: Sequence[str] = (),
    description: str = "training",
    metric_names: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train the student in place and leave the best weights in it; after a kill the same call resumes.

    A student with masks keeps the weights of the last step, because it is not sparse before.

    Args:
        model: computes the loss of the student.
        student: learns, and is evaluated.
        examples: a map-style data set.
        collate: lists the samples that cannot be read in `run_dir`/bad_samples.txt.
        training: the settings of the run.
        run_dir: the folder of log, checkpoints and bad_samples.txt.
        evaluate: returns metrics of the student, one of them `training.metric`.
        settings, parameter_groups, description, metric_names: see `cliptd.training.train`.
        bad: the reasons of samples that could not be read before, to be listed too.
    """
    masked = student.encoder if isinstance(student.encoder, MaskedDualEncoder) else None

    def metrics(_: nn.Module) -> dict[str, float]:
        if not accelerator.is_main_process:  # the main process's metrics count for all
            return {}
        found = evaluate(student)
        if masked is not None:
            found |= {f"expected sparsity, {k}": v.item() for k, v in masked.expected_sparsity().items()}
            found |= {f"real sparsity, {k}": v for k, v in masked.real_sparsity().items()}
        return found

    listed = run_dir / "bad_samples.txt"
    if accelerator.is_main_process:
        run_dir.mkdir(parents=True, exist_ok=True)
        before = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
        known = dict.fromkeys([*bad, *(before if training.resume == "auto" else ())])  # also a resumed run's
        write_atomically(listed, "".join(reason + "\n" for reason in known))
    accelerator.wait_for_everyone()
    collate.bad_samples = BadSampleList(listed)
    result = train(
        model,
        examples,
        collate,
        training if masked is None else dataclasses.replace(training, metric=None, patience=0),
        run_dir=run_dir,
        evaluate=metrics,
        parameter_groups=parameter_groups,
        accelerator=accelerator,
        settings=settings,
        description=description,
        metric_names=metric_names if masked is None else None,  # all: they tell how sparse it is
    )
    model.clamp_logit_scale()
    accelerator.free_memory()  # this run's optimizer goes before another run begins
    if accelerator.is_main_process:
        reasons = list(dict.fromkeys(listed.read_text(encoding="utf-8").splitlines()))  # of all processes
        write_atomically(listed, "".join(reason + "\n" for reason in reasons))
        if reasons:
            accelerator.print(f"{len(reasons)} samples were skipped, see {listed}")
    return result
