"""The settings of the tasks on the embedded benchmark: its data, its teacher, its student."""

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cliptd.data.files.cache import cache_folder
from cliptd.targeted.changes import DistillationChanges
from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.training import TrainingConfig
from tasks.iconworld.files.folder import PROPOSALS
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.labelled_split import LowShotSplitWithProposals
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
_SHARED: dict[str, Any] = {
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
    """Return the settings of a first run: a small VisualBERT that learns from 200 labelled items."""
    return FinetuneVcr(
        **_SHARED,
        data=VcrSplit(items=200, validation_items=300, known_classes=False),
        test_sets=("val", "singular", "val_shifted"),
        training=_training("mean", steps=300, batch_size=16),
    )


def vqa_settings() -> FinetuneVqa:
    """Return the settings of a first run with 600 labelled questions.

    The test sets are in domain (val), with the answers' priors turned round (cp_test), and of unseen icon families
    (shifted2014).
    """
    return FinetuneVqa(
        **_SHARED,
        data=VqaSplit(items=600, validation_items=500),
        test_sets=("val", "cp_test", "shifted2014"),
        training=_training("overall", steps=600, batch_size=32),
        loss="ce",  # in so few steps the binary cross-entropy learns only that "yes" is frequent
    )


def snli_ve_settings() -> FinetuneSnliVe:
    """Return the settings of a first run with 1,000 labelled pairs.

    The test sets are in domain (test), of these the pairs that the text alone does not give away (test_hard), and of
    unseen icon families (shifted).
    """
    return FinetuneSnliVe(
        **_SHARED,
        data=SnliVeSplit(items=1000, validation_items=500),
        test_sets=("test", "test_hard", "shifted"),
        training=_training("accuracy", steps=600, batch_size=32),
    )


def with_data(settings: Settings, **changes: Any) -> Settings:
    """Return the settings with some fields of their data changed."""
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, **changes))


def on_iconworld(settings: Settings, root: Path) -> Settings:
    """Return the settings on the files of `vcr_root`, `vqa_root` or `snli_ve_root`.

    Region features are kept beside the images. If the task's own files have no boxes, the icons' boxes are proposals,
    as a detector would make them.
    """
    data, changes = settings.data, {"data_root": root}
    if isinstance(data, LowShotSplitWithProposals) and data.proposals is None and not data.grid:
        changes["proposals"] = root / PROPOSALS
    region_cache = settings.region_cache or root / "regions"
    return dataclasses.replace(with_data(settings, **changes), region_cache=region_cache)
