"""The distillation of a dual encoder: one run in which a student learns from a teacher's embeddings."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from cliptd.data.identity import identity_of
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.config import Distillation
from cliptd.embedding.crops import random_crops
from cliptd.embedding.distiller import EmbeddingDistiller
from cliptd.embedding.loss_weights import LossWeights
from cliptd.embedding.objective import EmbeddingObjective
from cliptd.embedding.options import Tower
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder
from cliptd.embedding.student import Student, take_scale
from cliptd.embedding.student_run import Evaluate, train_student
from cliptd.store.reader import TeacherStore
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.fingerprints import hash_weights, shortened
from cliptd.teachers.teacher import Teacher
from cliptd.training import TrainingResult
from cliptd.unpaired.images_and_sentences import UnpairedPairs

LEAST_COSINE = 0.3
"""A frozen tower whose embeddings have a lower mean cosine to the teacher's is refused."""
COMPARED_PAIRS = 16
"""The number of pairs in this mean."""


def distil(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: MapStyle[Pair],
    settings: Distillation,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
    description: str = "training",
    metric_names: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train the student in place and leave the best weights in it; after a kill the same call resumes.

    If no loss trains the student's logit scale, it becomes that of affinity mimicking or, without affinity mimicking,
    the teacher's. If student and teacher are both SigLIPs, it becomes the teacher's, and so does the bias.

    Args:
        teacher: lies on the accelerator's device if it is asked live. None: no loss needs one.
        pairs: a map-style data set. If it has `skipped`, these reasons are listed in `run_dir`/bad_samples.txt with
            those of pairs that cannot be read.
        run_dir: the folder of log and checkpoints. The store lies beside it unless the settings name another.
        evaluate: returns metrics of the student, one of them `settings.training.metric`. A student with masks (its
            `encoder` is a `MaskedDualEncoder`) keeps the weights of the last step, because it is not sparse before.
        description, metric_names: the labels of the progress bar; see `cliptd.training.train`.

    Raises:
        ValueError: the losses need a teacher or pairs that there are none of, or a frozen tower embeds unlike the
            teacher's; and as the store, the objective and `cliptd.training.train`.
    """
    weights = settings.loss_weights
    masked = student.encoder if isinstance(student.encoder, MaskedDualEncoder) else None
    if teacher is None and weights.needs_teacher:
        raise ValueError("the losses compare the student with a teacher, and there is none; give one")
    if weights.needs_pairs and isinstance(pairs, UnpairedPairs):
        raise ValueError(
            f"{', '.join(weights.needs_pairs)}: needs texts that are true of their images, and these images and "
            "sentences are no pairs; remove the loss or give pairs"
        )
    crop = random_crops(settings, student, teacher)
    opened = OpenedPairs(pairs, crop=crop, on_bad_sample=settings.on_bad_sample)
    source, live, bad = None, None, list(getattr(pairs, "skipped", ()))
    if teacher is not None and weights.needs_teacher and settings.source == "store":
        path = settings.store or run_dir.parent / "store"
        bad += store_pairs(path, teacher, opened, accelerator=accelerator)
        source = TeacherStore.open(path, teacher)
    elif weights.needs_teacher:
        live = teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)  # decides the projections
        objective = EmbeddingObjective(
            weights,
            student_dim=student.embed_dim,
            teacher_dim=student.embed_dim if teacher is None else teacher.embed_dim,
            affinity_scale=settings.affinity_scale,
            dime_fm=settings.dime_fm,
        )
    if teacher is not None and not weights.trains_scale(settings.affinity_scale):
        _take_scale(student, teacher, weights, settings.affinity_scale)
    model = EmbeddingDistiller(
        student.encoder,
        objective,
        teacher=live,
        teacher_scale=None if teacher is None else teacher.logit_scale,
        frozen=settings.freeze,
    )
    if teacher is not None and weights.takes_the_place and settings.freeze:
        _check_frozen(student, teacher, opened, settings.freeze)
    described = {**run_identity(student, teacher, pairs, settings), "masked": masked is not None}
    described["stored_as"] = None if source is None else source.dtype
    if masked is not None:
        described |= {"sparsity": masked.sparsity, "ramp_steps": settings.ramp_steps}
    collate = StudentTeacherCollator(student, teacher=live, source=source)
    return train_student(
        model,
        student,
        OpenedPairs(pairs, crop=crop, on_bad_sample=settings.on_bad_sample, read=collate.read),
        collate,
        settings.training,
        run_dir=run_dir,
        evaluate=evaluate,
        parameter_groups=None if masked is None else _groups(model, masked, settings),
        accelerator=accelerator,
        settings=described,
        bad=bad,
        description=description,
        metric_names=metric_names,
    )


def student_identity(student: Student) -> dict[str, Any]:
    """Return the facts that tell the start of a student from that of another one, as JSON values."""
    return {
        "student": student.name,
        "student_config": student.config,
        "student_weights": shortened(hash_weights(student.model)),
    }


def run_identity(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: MapStyle[Pair],
    settings: Distillation,
) -> dict[str, Any]:
    """Return the facts, beside the training settings, that tell a run from another one, as JSON values."""
    return {
        **student_identity(student),
        "teacher": None if teacher is None else teacher.name,
        "teacher_fingerprint": None if teacher is None else teacher.fingerprint,
        "data": identity_of(pairs),
        "weights": asdict(settings.loss_weights),
        "affinity_scale": settings.affinity_scale,
        "source": settings.source,
        "crop": settings.crop,
        "crops": settings.crops,
        "dime_fm": asdict(settings.dime_fm),
        "freeze": list(settings.freeze),
        "on_bad_sample": settings.on_bad_sample,
        "towers": list(settings.towers),
        "how": settings.how,
        "mask_lr": settings.mask_lr,
    }


def _take_scale(
    student: Student,
    teacher: Teacher | TeacherEnsemble,
    weights: LossWeights,
    affinity_scale: float | None,
) -> None:
    """Give the student a logit scale that no loss trains."""
    both_sigmoid = student.model.logit_bias is not None and teacher.is_sigmoid
    if weights.affinity and affinity_scale is not None and not both_sigmoid:
        take_scale(student.model, affinity_scale)
    else:
        take_scale(student.model, teacher.logit_scale, teacher.logit_bias)


def _groups(
    model: EmbeddingDistiller, masked: MaskedDualEncoder, settings: Distillation
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups of a student with masks."""
    masks = list(masked.masks.parameters())
    of_masks = {id(mask) for mask in masks}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in of_masks]
    return [
        {"params": [p for p in others if p.ndim > 1]},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [mask for mask in masks if mask.requires_grad],
            "lr": settings.mask_lr,
            "weight_decay": 0.0,
            "eps": 1e-15,  # a unit's gradient of the price is 1e-10 in a ViT-B, which 1e-8 would hold still
        },
    ]


def _check_frozen(
    student: Student, teacher: Teacher | TeacherEnsemble, opened: OpenedPairs, frozen: Sequence[Tower]
) -> None:
    """Refuse a frozen tower that embeds unlike the teacher's, because the other tower learns the teacher's space."""
    examples = (opened[index] for index in range(len(opened)))
    pairs = list(itertools.islice((one for one in examples if isinstance(one, Pair)), COMPARED_PAIRS))
    if not pairs:
        raise ValueError(f"none of the {len(opened)} images could be read; look at the data")
    seen = {"image": [pair.image for pair in pairs], "text": [pair.text for pair in pairs]}
    for tower in frozen:
        own, others = (getattr(model, f"encode_{tower}s")(seen[tower]).cpu() for model in (student, teacher))
        likeness = (own * others).sum(dim=1).mean().item()
        if likeness < LEAST_COSINE:
            raise ValueError(
                f"the frozen {tower} tower embeds unlike the teacher's (mean cosine {likeness:.2f}), but the other "
                f"tower learns the teacher's space; give a student without weights, which gets the teacher's {tower} "
                "tower"
            )
