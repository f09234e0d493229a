"""One run in which a dual encoder learns from a teacher's embeddings."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.bad_samples import BadSampleList
from cliptd.data.identity import identity_of
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.config import Distillation
from cliptd.embedding.crops import DrawnCrops
from cliptd.embedding.distiller import EmbeddingDistiller, StudentInTraining
from cliptd.embedding.objective import EmbeddingObjective
from cliptd.embedding.pair_store import store_pairs
from cliptd.embedding.pruning.masks import MaskedDualEncoder, Tower
from cliptd.embedding.student import Student, take_scale
from cliptd.store.reader import TeacherStore
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.fingerprints import hash_weights
from cliptd.teachers.teacher import Teacher
from cliptd.training import TrainingConfig, TrainingResult, train
from cliptd.unpaired.images_and_sentences import UnpairedPairs
from cliptd.utils.files import write_atomically

Evaluate = Callable[[Student], dict[str, float]]


class ListingCollator(Protocol):
    """Examples to the columns of a batch; those that could not be read go to `bad_samples`."""

    bad_samples: BadSampleList

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]: ...


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
        write_atomically(listed, "".join(reason + "\n" for reason in known))
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
        reasons = list(dict.fromkeys(listed.read_text(encoding="utf-8").splitlines()))  # of all processes
        write_atomically(listed, "".join(reason + "\n" for reason in reasons))
        if reasons:
            accelerator.print(f"{len(reasons)} bad samples were left out: {listed}")
    return result
