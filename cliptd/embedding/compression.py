"""A small dual encoder out of a large one: shrink, distil, and shrink again (TinyCLIP, arXiv 2309.12314)."""

import dataclasses
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cliptd.data.pairs.pair import Pair
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import Evaluate, distil, run_identity
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.pruning.masks import MaskedDualEncoder, TowerMasks, tower_shape
from cliptd.embedding.pruning.prune import prune, uniform_shape
from cliptd.embedding.student import Student, load_student
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.from_open_clip import CONFIG
from cliptd.teachers.teacher import Teacher
from cliptd.training.config import refuse_other_config, resolved
from cliptd.utils.files import write_atomically

SPARSITY_TOLERANCE = 0.05
"""A sparsity that masks miss by more is worth a warning."""


def compress(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: Sequence[Pair],
    settings: Distillation,
    shares: Sequence[float],
    *,
    learned_masks: bool,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
) -> list[dict[str, Any]]:
    """Shrink the student stage by stage and distil it after each; a row of results a stage.

    Each stage inherits from the model of the last one, by hand (`inherit_weights`) or by masks that are learned and
    then pruned, and leaves an open_clip folder `run_dir`/stage-SHARE/model. Killed, the same call goes on; finished
    stages are not run again, and stages may be added at the end.

    shares: of the first student's matrices, descending, such as 0.75, 0.5, 0.25; 1 is the student as it is.

    Raises ValueError for shares that do not descend, a tower that is frozen or cannot be shrunk, too few steps for
    masks to close, or a run folder that holds stages of other settings: all before anything is trained.
    """
    if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares), reverse=True):
        raise ValueError(f"shares are {tuple(shares)}; expected descending ones from 1 to above 0")
    if len({_stage(run_dir, share) for share in shares}) < len(shares):
        raise ValueError(f"shares are {tuple(shares)}, of which two are alike to six digits; leave one out")
    if set(settings.freeze) & set(settings.towers):
        raise ValueError(
            f"freeze is {settings.freeze} and towers {settings.towers}: what is shrunk has to be trained; name other "
            "towers in one of the two"
        )
    if learned_masks and settings.ramp_steps >= settings.training.steps:
        raise ValueError(
            f"ramp_steps is {settings.ramp_steps} of {settings.training.steps} training steps, so masks would be "
            "pruned before they are as sparse as asked; lower ramp_steps or raise steps"
        )
    _check_towers(student, settings, [share for share in shares if share < 1], learned_masks)
    identity = resolved(
        settings.training, **run_identity(student, teacher, pairs, settings), learned_masks=learned_masks
    )
    _begin(run_dir, shares, identity, settings, accelerator)
    if settings.source == "store":  # one for all stages
        settings = dataclasses.replace(settings, store=settings.store or run_dir / "store")
    rows, before, whole = [], 1.0, student.config["model_cfg"]
    for share in shares:
        folder = _stage(run_dir, share)
        done = folder / "results.json"
        if not done.exists():
            options = {"evaluate": evaluate, "accelerator": accelerator}
            if share < before and learned_masks:
                student = _pruned(
                    student, teacher, pairs, settings, share / before, folder / "masks", options
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
    """Refuse towers that have no such shares."""
    whole = within = student.config["model_cfg"]
    for share in shares:
        if not learned_masks:
            within = share_config(whole, share, within=within, towers=settings.towers)
    if learned_masks and shares:
        for tower in settings.towers:
            uniform_shape(TowerMasks(tower_shape(student.model, tower)), 1 - shares[0])


def _begin(
    run_dir: Path, shares: Sequence[float], identity: dict, settings: Distillation, accelerator
) -> None:
    """Refuse a folder of other stages, or empty it if the settings say so."""
    path = run_dir / "stages.json"
    if settings.training.resume == "auto":
        refuse_other_config(path, identity)
        begun = {folder.name for folder in run_dir.glob("stage-*")}
        asked = [_stage(run_dir, share).name for share in shares]
        if begun != set(asked[: len(begun)]):
            raise ValueError(
                f"{run_dir} holds {', '.join(sorted(begun, reverse=True))}, and shares are {tuple(shares)}; give the "
                "same ones, with others behind them if you like, or another run_dir"
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


def _pruned(student, teacher, pairs, settings, share: float, folder: Path, options: dict) -> Student:
    """Learn masks that leave a share of the towers' matrices, and prune."""
    if not (folder / "pruned" / CONFIG).exists():  # which is written last
        masked = MaskedDualEncoder(
            student.model,
            settings.towers,
            sparsity=1 - share,
            ramp_steps=settings.ramp_steps,
            seed=settings.training.seed,
        )
        student.encoder = masked
        distil(student, teacher, pairs, settings, run_dir=folder / "run", **options)
        real = masked.real_sparsity()
        for tower, expected in masked.expected_sparsity().items():
            missed = max(abs(sparsity - masked.sparsity) for sparsity in (expected.item(), real[tower]))
            if missed > SPARSITY_TOLERANCE:
                warnings.warn(
                    f"masks of the {tower} tower were asked for a sparsity of {masked.sparsity:.2f} and came to "
                    f"{expected.item():.2f} expected and {real[tower]:.2f} real; what is pruned beyond that was not "
                    "learned: raise steps or mask_lr",
                    stacklevel=2,
                )
        model, config = prune(masked.cpu(), student.config["model_cfg"], masked.sparsity)
        student.model = student.encoder = model
        student.config = {**student.config, "model_cfg": config}
        if options["accelerator"].is_main_process:
            student.save(folder / "pruned")
        options["accelerator"].wait_for_everyone()
    return load_student(str(folder / "pruned"))
