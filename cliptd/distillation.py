"""One run in which a dual encoder learns from a teacher's embeddings."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.identity import identity_of
from cliptd.data.pairs import Pair
from cliptd.data.reinforced import ReinforcedDataset
from cliptd.data.unpaired import UnpairedPairs
from cliptd.distillation_config import Distillation
from cliptd.dual_encoders import Teacher, TeacherEnsemble, hash_weights
from cliptd.embedding.crops import DrawnCrops
from cliptd.embedding.distiller import EmbeddingDistiller
from cliptd.embedding.masks import MaskedDualEncoder, Tower
from cliptd.embedding.objective import EmbeddingObjective
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.pairs import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.reinforcement import ReinforcedCollator, ReinforcedDistiller, ReinforcedExamples
from cliptd.embedding.student import Student, take_scale
from cliptd.store import TeacherStore
from cliptd.student_training import Evaluate, train_student
from cliptd.training import TrainingResult


def distil(
    student: Student,
    teacher: Teacher | TeacherEnsemble | None,
    pairs: Sequence[Pair],
    settings: Distillation,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
) -> TrainingResult:
    """Train the student in place and leave the best weights in it; the same call resumes after a kill.

    Where no loss trains the student's logit scale, it becomes affinity mimicking's or, without it, the teacher's; a
    sigmoid student's of a sigmoid teacher the teacher's, and its bias.

    Args:
        teacher: on the accelerator's device, if it is asked live. None: no loss needs one.
        pairs: their `skipped`, if they have it, are listed in `run_dir`/bad_samples.txt with the pairs that cannot be
            read.
        run_dir: log, checkpoints and, beside it unless the settings name one, the store.
        evaluate: metrics of the student, one of them `settings.training.metric`. With masks in the student (its
            `encoder` a `MaskedDualEncoder`) the last step's weights stay, as it is not sparse before.

    Raises as `cliptd.training.train`, the store and the objective.
    """
    weights, masked = settings.loss_weights, isinstance(student.encoder, MaskedDualEncoder)
    if teacher is None and weights.needs_teacher:
        raise ValueError("the losses compare with a teacher, and there is none")
    crop = _crop(settings, student, teacher)
    if weights.needs_pairs and isinstance(pairs, UnpairedPairs):
        raise ValueError(
            f"{', '.join(weights.needs_pairs)}: needs texts that are true of their images, and these images and "
            "sentences are no pairs; leave the loss out or give pairs"
        )
    opened = OpenedPairs(pairs, crop=crop, on_bad_sample=settings.on_bad_sample)
    source, live, bad = None, None, list(getattr(pairs, "skipped", ()))
    if weights.needs_teacher and settings.source == "store":
        path = settings.store or run_dir.parent / "store"
        bad += store_pairs(path, teacher, opened, accelerator=accelerator)
        source = TeacherStore.open(path, teacher)
    elif weights.needs_teacher:
        live = teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)  # of its projections
        objective = EmbeddingObjective(
            weights,
            student_dim=student.embed_dim,
            teacher_dim=student.embed_dim if teacher is None else teacher.embed_dim,
            affinity_scale=settings.affinity_scale,
            dime_fm=settings.dime_fm,
        )
    if not weights.trains_scale(settings.affinity_scale):
        sigmoid = getattr(student.model, "logit_bias", None) is not None and teacher.is_sigmoid
        if weights.affinity and not sigmoid:
            take_scale(student.model, settings.affinity_scale)
        else:
            take_scale(student.model, teacher.logit_scale, teacher.logit_bias)
    model = EmbeddingDistiller(
        student.encoder,
        objective,
        teacher=live,
        teacher_scale=None if teacher is None else teacher.logit_scale,
        frozen=settings.freeze,
    )
    if weights.takes_the_place and settings.freeze:
        _check_frozen(student, teacher, opened, settings.freeze)
    described = {**run_identity(student, teacher, pairs, settings), "masked": masked}
    described["stored_as"] = None if source is None else source.dtype
    if masked:
        described |= {"sparsity": student.encoder.sparsity, "ramp_steps": settings.ramp_steps}
    collate = StudentTeacherCollator(student, teacher=live, source=source)
    return train_student(
        model,
        student,
        OpenedPairs(pairs, crop=crop, on_bad_sample=settings.on_bad_sample, read=collate.read),
        collate,
        settings.training,
        run_dir=run_dir,
        evaluate=evaluate,
        parameter_groups=_groups(model, settings) if masked else None,
        accelerator=accelerator,
        settings=described,
        bad=bad,
    )


def distil_reinforced(
    student: Student,
    dataset: ReinforcedDataset,
    settings: Distillation,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
) -> TrainingResult:
    """Train the student on a reinforced dataset, no teacher at hand; else as `distil`."""
    size = student.image_transform(Image.new("RGB", (16, 16))).shape[-1]
    described = {
        **student_identity(student),
        "data": identity_of(dataset),
        "card": json.loads(dataset.card.to_json()),
        "objective": settings.objective,
        "distill_weight": settings.distill_weight,
        "synthetic_captions": settings.synthetic_captions,
        "freeze": list(settings.freeze),
        "on_bad_sample": settings.on_bad_sample,
    }
    return train_student(
        ReinforcedDistiller(
            student.encoder, dataset.card, distill_weight=settings.distill_weight, frozen=settings.freeze
        ),
        student,
        ReinforcedExamples(
            dataset, size, captions=settings.synthetic_captions, on_bad_sample=settings.on_bad_sample
        ),
        ReinforcedCollator(student),
        settings.training,
        run_dir=run_dir,
        evaluate=evaluate,
        accelerator=accelerator,
        settings=described,
        bad=dataset.skipped,
    )


def student_identity(student: Student) -> dict[str, Any]:
    """Where a student starts from."""
    return {
        "student": student.name,
        "student_config": student.config,
        "student_weights": "sha256:" + hash_weights(student.model).hexdigest()[:16],
    }


def run_identity(student: Student, teacher, pairs, settings: Distillation) -> dict[str, Any]:
    """What besides the training configuration makes a run the one it is."""
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


def _groups(model: EmbeddingDistiller, settings: Distillation) -> list[dict[str, Any]]:
    masks = list(model.student.masks.parameters())
    of_masks = {id(mask) for mask in masks}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in of_masks]
    return [
        {"params": [p for p in others if p.ndim > 1]},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        {
            "params": [mask for mask in masks if mask.requires_grad],
            "lr": settings.mask_lr,
            "weight_decay": 0.0,
            "eps": 1e-15,  # a unit's share of the price is 1e-10 in a ViT-B, which 1e-8 would leave where it is
        },
    ]


def _check_frozen(
    student: Student, teacher: Teacher | TeacherEnsemble, opened: OpenedPairs, frozen: Sequence[Tower]
) -> None:
    """Refuse a frozen tower that does not embed as the teacher does: the other one would learn another space."""
    examples = (opened[index] for index in range(len(opened)))
    pairs = list(itertools.islice((example for example in examples if isinstance(example, Pair)), 16))
    if not pairs:
        raise ValueError("none of the images could be read")
    seen = {"image": [pair.image for pair in pairs], "text": [pair.text for pair in pairs]}
    for tower in frozen:
        own, others = (getattr(model, f"encode_{tower}s")(seen[tower]).cpu() for model in (student, teacher))
        likeness = (own * others).sum(dim=1).mean().item()
        if likeness < 0.3:
            raise ValueError(
                f"the frozen {tower} tower embeds unlike the teacher's (mean cosine {likeness:.2f}), whose space the "
                f"other tower learns; give a student without weights, which gets the teacher's {tower} tower"
            )


def _crop(settings: Distillation, student: Student, teacher: Teacher | TeacherEnsemble | None):
    """Random crops as large as the larger of the two models' pictures; of a store, a few drawn ones."""
    if settings.crop is None:
        return None
    members = [] if teacher is None else getattr(teacher, "members", [teacher])
    sizes = [member.pixel_shape[-1] for member in members]
    size = max([*sizes, student.image_transform(Image.new("RGB", (16, 16))).shape[-1]])
    if settings.source == "store":
        return DrawnCrops(AugmentationPolicy(size=size, scale=settings.crop, operations=0), settings.crops)
    return RandomResizedCrop(size, scale=settings.crop, interpolation=InterpolationMode.BICUBIC)
