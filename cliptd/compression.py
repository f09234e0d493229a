"""A small dual encoder out of a large one: a student learns from a teacher's embeddings, in one run or in stages."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from cliptd.data.pairs import OnBadSample, Pair
from cliptd.dual_encoders import Teacher, TeacherEnsemble
from cliptd.embedding.distiller import EmbeddingDistiller, Tower
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.masks import MaskedDualEncoder
from cliptd.embedding.objective import OBJECTIVES, EmbeddingObjective, LossWeights, ObjectiveName
from cliptd.embedding.pairs import OpenedPairs, StudentTeacherCollator, store_pairs
from cliptd.embedding.pruning import prune
from cliptd.embedding.student import Student, load_student
from cliptd.store import TeacherStore
from cliptd.training import TrainingConfig, TrainingResult, train
from cliptd.training.files import write_atomically

Evaluate = Callable[[Student], dict[str, float]]


def tiny_clip_training() -> TrainingConfig:
    """AdamW as in TinyCLIP's recipe (arXiv 2309.12314)."""
    return TrainingConfig(
        steps=2000, batch_size=256, lr=1e-4, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=200,
        eval_every=500, save_every=500, metric="top1",
    )  # fmt: skip


@dataclass(kw_only=True)
class Distillation:
    """How a student learns from a teacher's embeddings."""

    objective: ObjectiveName = "affinity"
    """One loss, or CLIP-KD's four."""
    weights: dict[str, float] = field(default_factory=dict)
    """A mix of your own instead, such as affinity 1 contrastive 0.5."""
    source: Literal["live", "store"] = "live"
    """Ask the teacher at every step, or look its embeddings up in a store, which is made first."""
    store: Path | None = None
    """A store that is there already, or to be shared. None: made in the run folder."""
    crop: tuple[float, float] | None = None
    """Smallest and largest share of the picture that a random crop shows, the same to student and live teacher; None:
    whole pictures, which a store needs."""
    freeze: tuple[Tower, ...] = ()
    """Towers of the student that stay as they are."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at a bad pair, or leave it out of its batch; the run folder's bad_samples.txt lists them."""
    mask_lr: float = 0.02
    """Of masks and their price, with learned masks."""
    ramp_steps: int = 1000
    """Training steps over which the sparsity that masks are asked for rises, with learned masks."""
    training: TrainingConfig = field(default_factory=tiny_clip_training)

    def __post_init__(self) -> None:
        if self.source == "store" and self.crop is not None:
            raise ValueError(
                "a store holds the teacher's embeddings of whole pictures, and crop shows the student parts of them; "
                "use source live, or leave crop out"
            )
        self.loss_weights  # noqa: B018  a wrong mix is said now

    @property
    def loss_weights(self) -> LossWeights:
        """Of the objective; raises ValueError for an unknown loss."""
        if not self.weights:
            return OBJECTIVES[self.objective]
        known = [f.name for f in dataclasses.fields(LossWeights)]
        for name in self.weights:
            if name not in known:
                raise ValueError(f"weights names {name!r}; expected some of {', '.join(known)}")
        return LossWeights(**self.weights)


def distil(
    student: Student,
    teacher: Teacher | TeacherEnsemble,
    pairs: Sequence[Pair],
    settings: Distillation,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
) -> TrainingResult:
    """Train the student in place and leave the best weights in it; the same call resumes after a kill.

    evaluate: metrics of the student, one of them `settings.training.metric`. With masks in the student (its `encoder` a
        `MaskedDualEncoder`) the last step's weights stay, as the sparsity that was asked for is reached only then.

    Raises as `cliptd.training.train`, the store and the objective.
    """
    weights, masked = settings.loss_weights, isinstance(student.encoder, MaskedDualEncoder)
    opened = OpenedPairs(
        pairs, crop=_crop(settings.crop, student, teacher), on_bad_sample=settings.on_bad_sample
    )
    source, live = None, None
    if weights.needs_teacher and settings.source == "store":
        path = settings.store or run_dir.parent / "store"
        if accelerator.is_main_process:
            store_pairs(path, teacher, opened)
        accelerator.wait_for_everyone()
        source = TeacherStore.open(path, teacher)
    elif weights.needs_teacher:
        live = teacher
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.training.seed)  # of its projections
        objective = EmbeddingObjective(weights, student_dim=student.embed_dim, teacher_dim=teacher.embed_dim)
    model = EmbeddingDistiller(
        student.encoder, objective, teacher=live, teacher_scale=teacher.logit_scale, frozen=settings.freeze
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    collate = StudentTeacherCollator(
        student, teacher=live, source=source, bad_samples=run_dir / "bad_samples.txt"
    )

    def metrics(model: nn.Module) -> dict[str, float]:
        found = evaluate(student)
        if masked:
            found |= {
                f"expected sparsity, {k}": v.item() for k, v in student.encoder.expected_sparsity().items()
            }
            found |= {f"real sparsity, {k}": v for k, v in student.encoder.real_sparsity().items()}
            found["masked steps"] = student.encoder.priced_steps.item()
        return found

    training = dataclasses.replace(settings.training, metric="masked steps") if masked else settings.training
    described = {
        "student": student.name,
        "student_config": student.config,
        "teacher": teacher.name,
        "teacher_fingerprint": teacher.fingerprint,
        "weights": asdict(weights),
        "source": settings.source,
        "crop": settings.crop,
        "freeze": list(settings.freeze),
        "sparsity": student.encoder.sparsity if masked else None,
    }
    return train(
        model,
        opened,
        collate,
        training,
        run_dir=run_dir,
        evaluate=metrics,
        parameter_groups=_groups(model, settings) if masked else None,
        accelerator=accelerator,
        settings=described,
    )


def compress(
    student: Student,
    teacher: Teacher | TeacherEnsemble,
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
    then pruned, and leaves an open_clip folder `run_dir`/stage-SHARE/model. Finished stages are not run again.

    shares: of the first student's matrices, descending, such as 0.75, 0.5, 0.25; 1 is the student as it is.

    Raises ValueError for shares that do not descend.
    """
    if any(not 0 < share <= 1 for share in shares) or list(shares) != sorted(set(shares), reverse=True):
        raise ValueError(f"shares are {tuple(shares)}; expected descending ones from 1 to above 0")
    rows, before, whole = [], 1.0, student.config["model_cfg"]
    for share in shares:
        folder = run_dir / f"stage-{share:g}"
        done = folder / "results.json"
        if not done.exists():
            options = {"evaluate": evaluate, "accelerator": accelerator}
            if share < before and learned_masks:
                student = _pruned(
                    student, teacher, pairs, settings, share / before, folder / "masks", options
                )
            elif share < before:
                config = share_config(whole, share, within=student.config["model_cfg"])
                student.model = student.encoder = inherit_weights(student.model.cpu(), config)
                student.config = {**student.config, "model_cfg": config}
            result = distil(student, teacher, pairs, settings, run_dir=folder / "run", **options)
            row = {
                "share": share,
                "parameters": student.parameters,
                "best_step": result.best_step,
                **result.best_metrics,
            }
            if accelerator.is_main_process:
                student.save(folder / "model")
                write_atomically(done, json.dumps(row, indent=2) + "\n")
            accelerator.wait_for_everyone()
        student, before = load_student(str(folder / "model")), share
        rows.append(json.loads(done.read_text()))
    return rows


def _pruned(student, teacher, pairs, settings, share: float, folder: Path, options: dict) -> Student:
    """Learn masks that leave a share of the towers' matrices, and prune."""
    if not (folder / "pruned").exists():
        masked = MaskedDualEncoder(student.model, sparsity=1 - share, ramp_steps=settings.ramp_steps)
        student.encoder = masked
        distil(student, teacher, pairs, settings, run_dir=folder / "run", **options)
        model, config = prune(masked.cpu(), student.config["model_cfg"], 1 - share)
        student.model = student.encoder = model
        student.config = {**student.config, "model_cfg": config}
        if options["accelerator"].is_main_process:
            student.save(folder / "pruned")
        options["accelerator"].wait_for_everyone()
    return load_student(str(folder / "pruned"))


def _groups(model: EmbeddingDistiller, settings: Distillation) -> list[dict[str, Any]]:
    masks = set(model.student.masks.parameters())
    others = [p for p in model.parameters() if p.requires_grad and p not in masks]
    return [
        {"params": [p for p in others if p.ndim > 1]},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
        {"params": list(masks), "lr": settings.mask_lr, "weight_decay": 0.0},
    ]


def _crop(scale: tuple[float, float] | None, student: Student, teacher: Teacher | TeacherEnsemble):
    """A random crop as large as the larger of the two models' pictures."""
    if scale is None:
        return None
    members = getattr(teacher, "members", [teacher])
    sizes = [member.pixel_shape[-1] for member in members]
    size = max(*sizes, student.image_transform(Image.new("RGB", (16, 16))).shape[-1])
    return RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BICUBIC)
