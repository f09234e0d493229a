"""Everything that a run needs is checked before the first step of the first method."""

import json
import shutil

import pytest

from cliptd.training import TrainingConfig
from tasks.finetuning.finetune import finetune
from tasks.vcr.split import VcrSplit
from tasks.vcr.task import VcrTask
from tests.helpers.tiny_clip import tiny_hf_folder


def refused(settings, message):
    with pytest.raises((ValueError, OSError), match=message):
        finetune(settings, VcrTask)
    assert not list(settings.run_dir.rglob("log.jsonl"))  # "none", the first method, was not trained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "ViT-B-3"}, "ViT-B-32"),
        ({"teacher": "ViT-B-32"}, "pretrained"),
        ({"teacher": "ViT-B-32", "pretrained": "openay"}, "openai"),
        ({"teacher": "./nowhere"}, "nowhere"),
        ({"student": "./nowhere"}, "nowhere"),
        ({"test_sets": ("val", "valid")}, "valid.jsonl does not exist; see --test-sets"),
        ({"training": {"micro_batch_size": 4}}, "gradient accumulation would change the loss"),
        ({"training": {"micro_batch_size": 3}}, "micro_batch_size"),
    ],
)
def test_what_would_stop_a_later_method_is_said_first(settings_of, changes, message):
    refused(settings_of(**changes), message)


def test_a_teacher_that_cannot_be_adapted_is_refused_first(settings_of, tmp_path):
    teacher = tiny_hf_folder(tmp_path / "hf")
    methods = ("none", "adapted_teacher")
    refused(settings_of(teacher=f"hf:{teacher}", methods=methods), "only these can be adapted")


def test_images_that_are_missing_are_said_first(settings_of, official, tmp_path):
    root = shutil.copytree(official[0], tmp_path / "vcr1")
    lines = [json.loads(line) for line in (root / "val.jsonl").read_text().splitlines()]
    (root / "vcr1images" / lines[0]["img_fn"]).unlink()
    refused(settings_of(data=VcrSplit(data_root=root, validation_items=8)), lines[0]["img_fn"])


def test_a_metric_that_no_evaluation_returns_is_refused_when_settings_are_made(settings_of):
    with pytest.raises(ValueError, match=r"training.metric is 'accuracy', expected one of mean, q_to_a"):
        settings_of(training={"metric": "accuracy"})


@pytest.mark.parametrize("processes", [3])
def test_a_batch_that_processes_cannot_share_is_refused(settings_of, processes):
    from accelerate import Accelerator

    from tasks.finetuning.check_first import check_first

    settings = settings_of(adaptation=TrainingConfig(metric="recall_at_1"))
    with pytest.raises(ValueError, match="cannot be shared evenly by 3 processes"):
        check_first(settings, VcrTask(settings, Accelerator()), processes)
