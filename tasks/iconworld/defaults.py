"""The tasks' settings on the embedded benchmark: its data, its teacher, its students."""

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cliptd.data.files.cache import cache_folder
from cliptd.targeted.changes import DistillationChanges
from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.training import TrainingConfig
from tasks.iconworld.files.folder import PROPOSALS
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.settings import FinetuneSettings
from tasks.snli_ve.settings import FinetuneSnliVe, SnliVeSplit
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.split import VcrSplit
from tasks.vqa.settings import FinetuneVqa, VqaSplit

if TYPE_CHECKING:  # the functions import what writes the files: a command line is parsed without torch
    from tasks.iconworld.files.snli_ve import SnliVeSizes
    from tasks.iconworld.files.vcr import VcrSizes
    from tasks.iconworld.files.vqa import VqaSizes

Settings = TypeVar("Settings", bound=FinetuneSettings)


def vcr_root(*, seed: int = 0, sizes: "VcrSizes | None" = None) -> Path:
    """Return the folder of iconworld's VCR files, which are written on first use."""
    from tasks.iconworld.files import vcr

    sizes = sizes or vcr.VcrSizes()
    return vcr.write_vcr(_folder("vcr", vcr.FORMAT, seed, sizes), seed=seed, sizes=sizes)


def vqa_root(*, seed: int = 0, sizes: "VqaSizes | None" = None) -> Path:
    """Return the folder of iconworld's VQA files, which are written on first use."""
    from tasks.iconworld.files import vqa

    sizes = sizes or vqa.VqaSizes()
    return vqa.write_vqa(_folder("vqa", vqa.FORMAT, seed, sizes), seed=seed, sizes=sizes)


def snli_ve_root(*, seed: int = 0, sizes: "SnliVeSizes | None" = None) -> Path:
    """Return the folder of iconworld's SNLI-VE files, which are written on first use."""
    from tasks.iconworld.files import snli_ve

    sizes = sizes or snli_ve.SnliVeSizes()
    return snli_ve.write_snli_ve(_folder("snli_ve", snli_ve.FORMAT, seed, sizes), seed=seed, sizes=sizes)


def _folder(task: str, version: int, seed: int, sizes: "VcrSizes | VqaSizes | SnliVeSizes") -> Path:
    counts = "-".join(map(str, asdict(sizes).values()))
    return cache_folder() / "iconworld" / f"{task}-{version}-{seed}-{counts}"


# The library's defaults suit CLIP's logit scale of 100; this teacher's is 28, and its cosines spread accordingly.
_SHARED = {
    "student": str(STUDENT),
    "regions": f"local-dir:{REGIONS}",
    "teacher": str(TEACHER),
    "methods": ("none", "targeted"),
    "teacher_boxes": "alone",  # it knows icons of one size only
    "distillation": DistillationChanges(
        visual_temperature=0.07, semantic_temperature=0.18, distance="infonce", share_heads="all"
    ),
    "adaptation": dataclasses.replace(adaptation_defaults(), steps=100, eval_every=50, save_every=0),
    "max_test_items": 500,
}


def _training(metric: str, *, steps: int, batch_size: int) -> TrainingConfig:
    return TrainingConfig(
        steps=steps,
        batch_size=batch_size,
        lr=1e-3,
        warmup_steps=30,
        eval_every=150,
        save_every=150,
        metric=metric,
    )


def vcr_settings() -> FinetuneVcr:
    """A first run: what CLIP-targeted distillation does for a small VisualBERT with 200 labelled items."""
    return FinetuneVcr(
        **_SHARED,
        data=VcrSplit(items=200, validation_items=300, known_classes=False),
        test_sets=("val", "singular", "val_shifted"),
        training=_training("mean", steps=300, batch_size=16),
    )


def vqa_settings() -> FinetuneVqa:
    """The same with 600 labelled questions: in domain, with the answers' priors turned round, in unseen families."""
    return FinetuneVqa(
        **_SHARED,
        data=VqaSplit(items=600, validation_items=500),
        test_sets=("val", "cp_test", "shifted2014"),
        training=_training("overall", steps=600, batch_size=32),
        loss="ce",  # in so few steps the binary cross-entropy learns only that "yes" is frequent
    )


def snli_ve_settings() -> FinetuneSnliVe:
    """The same with 1,000 labelled pairs: in domain, those that the text alone does not give away, unseen families."""
    return FinetuneSnliVe(
        **_SHARED,
        data=SnliVeSplit(items=1000, validation_items=500),
        test_sets=("test", "test_hard", "shifted"),
        training=_training("accuracy", steps=600, batch_size=32),
    )


def with_data(settings, **changes):
    """The settings with some fields of their data changed."""
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, **changes))


def on_iconworld(settings: Settings, root: Path) -> Settings:
    """The settings on the files of `vcr_root`, `vqa_root` or `snli_ve_root`.

    Region features are kept beside the pictures they are of, and where the task's own files have no boxes, the icons'
    boxes come from proposals, as a detector would give them.
    """
    changes = {"data_root": root}
    if (root / PROPOSALS).exists() and settings.data.proposals is None and not settings.data.grid:
        changes["proposals"] = root / PROPOSALS
    region_cache = settings.region_cache or root / "regions"
    return dataclasses.replace(with_data(settings, **changes), region_cache=region_cache)
