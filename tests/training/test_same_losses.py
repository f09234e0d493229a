"""Promise 2: one process, two processes, accumulation and a plain loop give the same losses."""

import math

import pytest
import torch
from torch import nn

from cliptd.training import read_log
from cliptd.training.sampler import ExampleStream
from cliptd.training.seeding import seed_generators
from tests.helpers.forked_runs import final_weights
from tests.helpers.small_run import Classifier, Points, collate, run


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("straight") / "run"
    run(run_dir)
    return run_dir


def assert_same_losses(run_dir, straight):
    ours, theirs = read_log(run_dir / "log.jsonl"), read_log(straight / "log.jsonl")
    assert len(ours) == len(theirs) == 12
    for mine, other in zip(ours, theirs, strict=True):
        for name in ("loss", "grad_norm", "lr", "loss_samples", "loss_samples_squared"):
            assert mine[name] == pytest.approx(other[name], rel=2e-5), (mine["step"], name)
        assert mine.get("metrics") == other.get("metrics")
    ours, theirs = final_weights(run_dir), final_weights(straight)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_accumulation(straight, tmp_path, micro_batch_size):
    run(tmp_path / "run", micro_batch_size=micro_batch_size)
    assert_same_losses(tmp_path / "run", straight)


@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 2}], ids=["plain", "accumulated"])
def test_two_processes(forked_run, straight, tmp_path, settings):
    assert not forked_run(tmp_path / "run", processes=2, **settings)
    assert_same_losses(tmp_path / "run", straight)


def test_two_processes_go_on_after_a_kill(forked_run, straight, tmp_path):
    assert forked_run(tmp_path / "run", processes=2, kill_at=60)
    assert not forked_run(tmp_path / "run", processes=2)
    assert_same_losses(tmp_path / "run", straight)


def test_against_a_loop_written_by_hand(tmp_path):
    """AdamW with a warm-up of 2 of 12 steps and a line to 0, decay on matrices, the norm clipped at 0.5."""
    model, points = Classifier(), Points()
    decayed = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.8, 0.9)
    )
    stream, losses, norms = ExampleStream(0, len(points)), [], []
    rates = [0.01, 0.02, *(0.02 * (10 - k) / 10 for k in range(10))]
    for step, rate in enumerate(rates):
        examples = []
        for position in range(step * 8, step * 8 + 8):
            seed_generators(0, "example", position)
            examples.append(points[stream.indices(position, position + 1)[0]])
        batch = collate(examples)
        loss = nn.functional.cross_entropy(model(batch["features"])["logits"], batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().square().sum().item() for p in model.parameters()))
        for parameter in model.parameters():
            parameter.grad *= min(1.0, 0.5 / norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
    result = run(
        tmp_path / "run", warmup_steps=2, schedule="linear", weight_decay=0.1, betas=(0.8, 0.9), clip_norm=0.5
    )
    assert [row["lr"] for row in result.history] == pytest.approx(rates)
    assert [row["loss"] for row in result.history] == pytest.approx(losses, rel=1e-5)
    assert [row["grad_norm"] for row in result.history] == pytest.approx(norms, rel=1e-5)
    for name, value in final_weights(tmp_path / "run").items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=1e-5, rtol=1e-4)
