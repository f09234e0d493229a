"""The settings: what is refused, the learning rate by hand, flags by tyro."""

import re

import pytest
import tyro

from cliptd.training import TrainingConfig
from cliptd.training.config import refuse_other_config, resolved
from cliptd.utils.run_folder import remember_settings


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", 0, "a number above 0"),
        ("batch_size", -1, "a number above 0"),
        ("micro_batch_size", 0, "a number above 0"),
        ("lr", 0.0, "a number above 0"),
        ("lr", float("nan"), "a number above 0"),
        ("weight_decay", -0.1, "0 or more"),
        ("warmup_steps", -1, "0 or more"),
        ("num_workers", -1, "0 or more"),
        ("betas", (0.9, 1.0), r"two numbers in \[0, 1\)"),
        ("schedule", "step", "one of .*'cosine', 'linear', 'constant'"),
        ("mixed_precision", "fp8", "one of .*'bf16'"),
        ("track", "mlflow", "one of .*'trackio'"),
        ("resume", "yes", "one of .*'auto', 'never'"),
    ],
)
def test_out_of_range(field, value, expected):
    with pytest.raises(ValueError, match=rf"TrainingConfig\.{field} is .*, expected {expected}"):
        TrainingConfig(**{field: value})


def test_accumulation():
    assert TrainingConfig(batch_size=24).accumulation(2) == 1
    assert TrainingConfig(batch_size=24, micro_batch_size=3).accumulation(2) == 4
    with pytest.raises(ValueError, match="batch_size 24 cannot be shared evenly by 5 processes"):
        TrainingConfig(batch_size=24).accumulation(5)
    with pytest.raises(ValueError, match=r"24 is not 2 processes x micro_batch_size 5 .* divides 12"):
        TrainingConfig(batch_size=24, micro_batch_size=5).accumulation(2)
    with pytest.raises(ValueError, match="micro_batch_size 16"):
        TrainingConfig(batch_size=24, micro_batch_size=16).accumulation(2)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("linear", [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1, 1, 0.8535533905932737, 0.5, 0.1464466094067262]),
    ],
)
def test_schedules(schedule, expected):
    config = TrainingConfig(steps=8, warmup_steps=4, schedule=schedule)
    assert [config.learning_rate_factor(step) for step in range(8)] == pytest.approx(expected)


def test_all_warm_up():
    config = TrainingConfig(steps=2, warmup_steps=5)
    assert [config.learning_rate_factor(step) for step in range(2)] == pytest.approx([0.2, 0.4])


def test_flags_and_their_help(capsys):
    config = tyro.cli(
        TrainingConfig, args=["--steps", "7", "--betas", "0.8", "0.9", "--mixed-precision", "bf16"]
    )
    assert (config.steps, config.betas, config.mixed_precision) == (7, (0.8, 0.9), "bf16")
    with pytest.raises(SystemExit):
        tyro.cli(TrainingConfig, args=["--help"])
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert "GLOBAL number of examples per optimizer step" in shown


def test_a_damaged_config_file(tmp_path):
    path = tmp_path / "config.json"
    current = resolved(TrainingConfig(), dataset_length=3)
    refuse_other_config(path, current)  # no run there
    remember_settings(path, current)
    refuse_other_config(path, current)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not complete JSON .* resume='never'"):
        refuse_other_config(path, current)
