"""Checkpoints: what is complete, what comes back, what is refused."""

import json

import pytest
import torch
from torch import nn

from cliptd.training.checkpoint import load_checkpoint, load_weights, newest_checkpoint, save_checkpoint
from cliptd.training.log import StepLog, read_log


def stepped(width=3, optimizer=torch.optim.AdamW):
    torch.manual_seed(0)
    model = nn.Linear(width, 2)
    optimizer = optimizer(model.parameters(), lr=0.1)
    model(torch.ones(1, width)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adagrad, torch.optim.NAdam])
def test_model_and_optimizer_come_back(tmp_path, kind):
    model, optimizer = stepped(optimizer=kind)
    save_checkpoint(tmp_path, 5, model, optimizer, {"best_step": 3})
    other = nn.Linear(3, 2)
    fresh = kind(other.parameters(), lr=0.1)
    assert load_checkpoint(newest_checkpoint(tmp_path), other, fresh) == (5, {"best_step": 3})
    for network, stepper in ((model, optimizer), (other, fresh)):
        stepper.zero_grad()
        network(torch.full((1, 3), 2.0)).square().sum().backward()
        stepper.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_an_older_one_goes_when_the_next_is_complete(tmp_path):
    model, optimizer = stepped()
    first = save_checkpoint(tmp_path, 5, model, optimizer, {})
    second = save_checkpoint(tmp_path, 10, model, optimizer, {})
    assert not first.exists()
    assert newest_checkpoint(tmp_path) == second


@pytest.mark.parametrize("damage", ["no marker", "half a marker", "shorter file", "missing file"])
def test_incomplete_ones_are_not_seen(tmp_path, damage):
    model, optimizer = stepped()
    good = save_checkpoint(tmp_path / "a", 5, model, optimizer, {})
    bad = save_checkpoint(tmp_path / "b", 10, model, optimizer, {})
    bad = bad.rename(good.parent / bad.name)
    assert newest_checkpoint(tmp_path / "a") == bad
    marker = bad / "COMPLETE"
    if damage == "no marker":
        marker.unlink()
    elif damage == "half a marker":
        marker.write_text(marker.read_text()[:20])
    elif damage == "shorter file":
        (bad / "optimizer.safetensors").write_bytes((bad / "optimizer.safetensors").read_bytes()[:-1])
    else:
        (bad / "state.json").unlink()
    assert newest_checkpoint(tmp_path / "a") == good


def test_another_model_or_damage_is_named(tmp_path):
    model, optimizer = stepped()
    folder = save_checkpoint(tmp_path, 5, model, optimizer, {})
    with pytest.raises(
        ValueError, match=r"(?s)model\.safetensors holds the weights of another model.*weight"
    ):
        load_checkpoint(folder, *stepped(width=4))
    frozen = torch.optim.AdamW([model.weight], lr=0.1)
    with pytest.raises(
        ValueError, match=r"optimizer state is of other parameters .*'bias'.*parameter_groups"
    ):
        load_checkpoint(folder, model, frozen)
    with pytest.raises(ValueError, match=r"best\.safetensors cannot be read"):
        load_weights(tmp_path / "best.safetensors", model)
    path = folder / "model.safetensors"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be read .*resume='never'"):
        load_checkpoint(folder, model, optimizer)


def test_only_tensors_are_kept(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return "a note"

    model = Odd(2, 2)
    with pytest.raises(ValueError, match="'_extra_state' is a str, expected a tensor"):
        save_checkpoint(tmp_path, 1, model, torch.optim.AdamW(model.parameters()), {})


def test_the_log_is_cut_where_a_run_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    log = StepLog(path)
    for step in range(1, 6):
        log.write({"step": step})
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # killed while writing
    assert [row["step"] for row in read_log(path)] == [1, 2, 3, 4, 5]
    log = StepLog(path)
    log.keep_until(3)
    log.write({"step": 4})
    log.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
