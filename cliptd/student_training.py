"""Train a dual encoder on any objective, with what all of them share: evaluation, masks, a list of bad samples."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from torch import nn

from cliptd.embedding.bad_samples import BadSampleList
from cliptd.embedding.distiller import StudentInTraining
from cliptd.embedding.masks import MaskedDualEncoder
from cliptd.embedding.student import Student
from cliptd.files import write_atomically
from cliptd.training import TrainingConfig, TrainingResult, train

Evaluate = Callable[[Student], dict[str, float]]


class ListingCollator(Protocol):
    """Examples to the columns of a batch; those that could not be read go to `bad_samples`."""

    bad_samples: BadSampleList

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]: ...


def train_student(
    model: StudentInTraining,
    student: Student,
    examples: Sequence,
    collate: ListingCollator,
    training: TrainingConfig,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
    settings: dict[str, Any],
    parameter_groups: Iterable[dict[str, Any]] | None = None,
    bad: Sequence[str] = (),
) -> TrainingResult:
    """Train the student in place and leave the best weights in it; the same call resumes after a kill.

    With masks in the student the last step's weights stay, as it is not sparse before.

    Args:
        model: computes the loss of the student. examples: map-style.
        collate: is told to list samples that could not be read in `run_dir`/bad_samples.txt.
        settings, parameter_groups: as for `cliptd.training.train`.
        bad: what was wrong with samples before.
    """
    masked = isinstance(student.encoder, MaskedDualEncoder)

    def metrics(_: nn.Module) -> dict[str, float]:
        if not accelerator.is_main_process:  # whose metrics all have in the end
            return {}
        found = evaluate(student)
        if masked:
            found |= {
                f"expected sparsity, {k}": v.item() for k, v in student.encoder.expected_sparsity().items()
            }
            found |= {f"real sparsity, {k}": v for k, v in student.encoder.real_sparsity().items()}
        return found

    listed = run_dir / "bad_samples.txt"
    if accelerator.is_main_process:
        run_dir.mkdir(parents=True, exist_ok=True)
        before = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
        known = dict.fromkeys([*bad, *(before if training.resume == "auto" else ())])  # a resumed run's, too
        write_atomically(listed, "".join(complaint + "\n" for complaint in known))
    accelerator.wait_for_everyone()
    collate.bad_samples = BadSampleList(listed)
    result = train(
        model,
        examples,
        collate,
        dataclasses.replace(training, metric=None, patience=0) if masked else training,
        run_dir=run_dir,
        evaluate=metrics,
        parameter_groups=parameter_groups,
        accelerator=accelerator,
        settings=settings,
    )
    model.clamp_logit_scale()
    accelerator.free_memory()  # of this run's optimizer, before another begins
    if accelerator.is_main_process:
        complaints = list(dict.fromkeys(listed.read_text(encoding="utf-8").splitlines()))  # of all processes
        write_atomically(listed, "".join(complaint + "\n" for complaint in complaints))
        if complaints:
            accelerator.print(f"{len(complaints)} bad samples were left out: {listed}")
    return result
