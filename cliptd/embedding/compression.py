"""The compression of a dual encoder in stages: shrink, distil, and shrink again (TinyCLIP, arXiv 2309.12314)."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil, run_identity
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder, tower_shape
from cliptd.embedding.pruning.prune import prune, uniform_shape
from cliptd.embedding.pruning.tower_masks import TowerMasks
from cliptd.embedding.student import Student, load_student
from cliptd.embedding.student_run import Evaluate
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.from_open_clip import CONFIG
from cliptd.teachers.teacher import Teacher
from cliptd.training.config import refuse_other_config, resolved
from cliptd.utils.files import write_atomically

SPARSITY_TOLERANCE = 0.05
"""If masks miss the sparsity to reach by more, a warning says so."""


def compress(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: MapStyle[Pair],
    settings: Distillation,
    shares: Sequence[float],
    *,
    learned_masks: bool,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
    metric_names: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Shrink the student in stages and distil it after each; return one row of results per stage.

    Each stage shrinks the model of the last one, by `inherit_weights` or by masks that are learned and then pruned. It
    leaves an open_clip folder `run_dir`/stage-SHARE/model. After a kill the same call goes on. Finished stages are not
    run again, and stages may be added at the end.

    Args:
        student: the first student, which has weights. Its model is used up.
        teacher, pairs, settings, evaluate: as for `distil`.
        shares: the share of the first student's matrices in each stage, descending, such as 0.75, 0.5, 0.25. With 1 the
            stage distils the student as it is.
        learned_masks: If true, masks choose the channels, heads and units that stay. They are learned in a run of as
            many steps before each stage.
        run_dir: the folder of the stages.
        metric_names: the labels of the metrics in the progress bar; see `cliptd.training.train`.

    Returns: {"share", "parameters", "best_step", and the best metrics} of each stage.
    Raises:
        ValueError: before anything is trained: shares that do not descend, a tower that is frozen or cannot be shrunk,
            too few steps for masks to close, or a run folder with stages of other settings.
    """
    if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares), reverse=True):
        raise ValueError(f"shares are {tuple(shares)}; expected descending ones from 1 to above 0")
    if len({_stage(run_dir, share) for share in shares}) < len(shares):
        raise ValueError(f"shares are {tuple(shares)}, and two are alike to six digits; remove one of them")
    if set(settings.freeze) & set(settings.towers):
        raise ValueError(
            f"freeze is {settings.freeze} and towers is {settings.towers}, but a tower that shrinks must be trained; "
            "name other towers in one of the two"
        )
    if learned_masks and settings.ramp_steps >= settings.training.steps:
        raise ValueError(
            f"ramp_steps is {settings.ramp_steps} of {settings.training.steps} training steps, so masks would be "
            "pruned before they reach their sparsity; lower ramp_steps or raise steps"
        )
    _check_towers(student, settings, [share for share in shares if share < 1], learned_masks)
    identity = resolved(
        settings.training, **run_identity(student, teacher, pairs, settings), learned_masks=learned_masks
    )
    _begin(run_dir, shares, identity, settings, accelerator)
    if settings.source == "store":  # all stages share one store
        settings = dataclasses.replace(settings, store=settings.store or run_dir / "store")
    rows, before, whole = [], 1.0, student.config["model_cfg"]
    for number, share in enumerate(shares, start=1):
        folder, label = _stage(run_dir, share), f"[{number}/{len(shares)} stage {share:g}]"
        done = folder / "results.json"
        if not done.exists():
            options = {
                "evaluate": evaluate,
                "accelerator": accelerator,
                "description": label,
                "metric_names": metric_names,
            }
            if share < before and learned_masks:
                student = _pruned(
                    student, teacher, pairs, settings, share / before, folder / "masks", **options
                )
            elif share < before:
                config = share_config(
                    whole, share, within=student.config["model_cfg"], towers=settings.towers
                )
                student.model = student.encoder = inherit_weights(student.model.cpu(), config, settings.how)
                student.config = {**student.config, "model_cfg": config}
            result = distil(student, teacher, pairs, settings, run_dir=folder / "run", **options)
            row = {"share": share, "parameters": student.parameters, "best_step": result.best_step}
            row |= result.best_metrics
            if accelerator.is_main_process:
                student.save(folder / "model")
                write_atomically(done, json.dumps(row, indent=2) + "\n")
            accelerator.wait_for_everyone()
        student, before = load_student(str(folder / "model")), share
        rows.append(json.loads(done.read_text()))
    return rows


def _check_towers(
    student: Student, settings: Distillation, shares: Sequence[float], learned_masks: bool
) -> None:
    """Refuse towers that cannot have these shares."""
    whole = within = student.config["model_cfg"]
    for share in shares:
        if not learned_masks:
            within = share_config(whole, share, within=within, towers=settings.towers)
    if learned_masks and shares:
        for tower in settings.towers:
            uniform_shape(TowerMasks(tower_shape(student.model, tower)), 1 - shares[0])


def _begin(
    run_dir: Path,
    shares: Sequence[float],
    identity: dict[str, Any],
    settings: Distillation,
    accelerator: Accelerator,
) -> None:
    """Refuse a folder with other stages, or empty it if the settings say so."""
    path = run_dir / "stages.json"
    if settings.training.resume == "auto":
        refuse_other_config(path, identity)
        begun = {folder.name for folder in run_dir.glob("stage-*")}
        asked = [_stage(run_dir, share).name for share in shares]
        if begun != set(asked[: len(begun)]):
            raise ValueError(
                f"{run_dir} holds {', '.join(sorted(begun, reverse=True))}, and shares are {tuple(shares)}; give the "
                "same shares, with smaller ones at the end if you like, or another run_dir"
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if settings.training.resume == "never":
            for folder in run_dir.glob("stage-*"):
                shutil.rmtree(folder)
        run_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(identity, indent=2) + "\n")
    accelerator.wait_for_everyone()


def _stage(run_dir: Path, share: float) -> Path:
    return run_dir / f"stage-{share:g}"


def _pruned(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: MapStyle[Pair],
    settings: Distillation,
    share: float,
    folder: Path,
    *,
    evaluate: Evaluate,
    accelerator: Accelerator,
    description: str,
    metric_names: Mapping[str, str] | None,
) -> Student:
    """Learn masks that keep a share of the towers' matrices, prune, and return the smaller student."""
    if not (folder / "pruned" / CONFIG).exists():  # the config is written last
        masked = MaskedDualEncoder(
            student.model,
            settings.towers,
            sparsity=1 - share,
            ramp_steps=settings.ramp_steps,
            seed=settings.training.seed,
        )
        student.encoder = masked
        distil(
            student,
            teacher,
            pairs,
            settings,
            run_dir=folder / "run",
            evaluate=evaluate,
            accelerator=accelerator,
            description=f"{description} masks",
            metric_names=metric_names,
        )
        real = masked.real_sparsity()
        for tower, expected in masked.expected_sparsity().items():
            missed = max(abs(sparsity - masked.sparsity) for sparsity in (expected.item(), real[tower]))
            if missed > SPARSITY_TOLERANCE:
                warnings.warn(
                    f"the masks of the {tower} tower should reach a sparsity of {masked.sparsity:.2f} but reached "
                    f"{expected.item():.2f} expected and {real[tower]:.2f} real, so some channels are pruned that the "
                    "masks did not learn to close; raise steps or mask_lr",
                    stacklevel=2,
                )
        model, config = prune(masked.cpu(), student.config["model_cfg"], masked.sparsity)
        student.model = student.encoder = model
        student.config = {**student.config, "model_cfg": config}
        if accelerator.is_main_process:
            student.save(folder / "pruned")
        accelerator.wait_for_everyone()
    return load_student(str(folder / "pruned"))
