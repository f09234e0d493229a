"""The tasks' settings on the embedded benchmark: its data, its teacher, its students."""

import dataclasses
import sys
from pathlib import Path

import tyro
from accelerate import PartialState

from cliptd.data.cache import cache_folder
from cliptd.targeted.changes import DistillationChanges
from cliptd.training import TrainingConfig
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.iconworld.vcr import FORMAT, VcrSizes, write_vcr
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.split import VcrSplit


def vcr_root(*, seed: int = 0, sizes: VcrSizes | None = None) -> Path:
    """The folder of iconworld's VCR files, written on first use."""
    sizes = sizes or VcrSizes()
    name = f"vcr-{FORMAT}-{seed}-{sizes.train}-{sizes.val}-{sizes.val_shifted}-{sizes.test}"
    return write_vcr(cache_folder() / "iconworld" / name, seed=seed, sizes=sizes)


def vcr_settings() -> FinetuneVcr:
    """A first run: what CLIP-targeted distillation does for a small VisualBERT with 200 labelled items."""
    return FinetuneVcr(
        data=VcrSplit(items=200, validation_items=300, known_classes=False),
        student=str(STUDENT),
        regions=f"local-dir:{REGIONS}",
        teacher=str(TEACHER),
        methods=("none", "targeted"),
        teacher_boxes="alone",  # it knows icons of one size only
        # The defaults suit CLIP's logit scale of 100; this teacher's is 28, and its cosines spread accordingly.
        distillation=DistillationChanges(
            visual_temperature=0.07, semantic_temperature=0.18, distance="infonce", share_heads="all"
        ),
        test_sets=("val", "singular", "val_shifted"),
        max_test_items=500,
        run_dir=Path("runs/vcr"),
        training=TrainingConfig(
            steps=300, batch_size=16, lr=1e-3, warmup_steps=30, eval_every=150, save_every=150, metric="mean"
        ),
    )


def with_data(settings, **changes):
    """The settings with some fields of their data changed."""
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, **changes))


def on_iconworld(settings: FinetuneVcr, root: Path) -> FinetuneVcr:
    """The settings on the files of `vcr_root`; region features are kept beside the pictures they are of."""
    region_cache = settings.region_cache or root / "regions"
    return dataclasses.replace(with_data(settings, data_root=root), region_cache=region_cache)


def names_data_root(arguments: list[str]) -> bool:
    """Whether a command line asks for the user's own data."""
    return any(argument.split("=")[0] in ("--data-root", "--data_root") for argument in arguments)


def vcr_settings_from_command_line(description: str | None) -> FinetuneVcr:
    """What the command line says; without --data-root the defaults and the data are iconworld's."""
    own_data = names_data_root(sys.argv)
    settings = tyro.cli(FinetuneVcr, default=None if own_data else vcr_settings(), description=description)
    if own_data:
        return settings
    with PartialState().main_process_first():
        return on_iconworld(settings, vcr_root())
