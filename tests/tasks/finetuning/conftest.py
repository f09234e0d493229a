"""Small official VCR files, a tiny ViLT and a tiny CLIP, for runs inside the test's process."""

import pytest
from transformers import ViltForMaskedLM, ViltImageProcessor

from cliptd.training import TrainingConfig
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.split import VcrSplit
from tests.helpers.tiny_clip import tiny_open_clip_folder
from tests.helpers.tiny_vcr import pair_tokenizer, tiny_config, tiny_vcr


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """Return the folders of data, student and teacher."""
    folder = tmp_path_factory.mktemp("official")
    root = tiny_vcr(folder / "vcr1", items=24, split="train")
    tiny_vcr(root, items=8, split="val")
    tokenizer = pair_tokenizer()
    ViltForMaskedLM(tiny_config("vilt", len(tokenizer))).save_pretrained(folder / "vilt")
    tokenizer.save_pretrained(folder / "vilt")
    ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=16).save_pretrained(folder / "vilt")
    return root, folder / "vilt", tiny_open_clip_folder(folder / "clip")


@pytest.fixture
def settings_of(official, tmp_path, monkeypatch):
    """Return a function that makes the settings of a run of four steps, with changes."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    root, student, teacher = official

    def make(*, training: dict | None = None, **changes) -> FinetuneVcr:
        steps = {
            "steps": 4,
            "eval_every": 2,
            "save_every": 2,
            "batch_size": 8,
            "warmup_steps": 1,
            "metric": "mean",
        }
        options = {
            "data": VcrSplit(data_root=root, validation_items=8),
            "student": str(student),
            "teacher": str(teacher),
            "test_sets": ("val",),
            "run_dir": tmp_path / "run",
            "training": TrainingConfig(**{**steps, **(training or {})}),
        }
        return FinetuneVcr(**{**options, **changes})

    return make
