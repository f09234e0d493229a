"""Promise 1: kill -9 at any moment, run the same again: same samples, same order, same final weights."""

import random

import pytest
import torch

from cliptd.training import read_log
from tests.helpers.forked_runs import final_weights

SETTINGS = {"steps": 6, "eval_every": 2, "save_every": 3, "dropout": 0.2}


def assert_same_run(run_dir, reference):
    log = read_log(run_dir / "log.jsonl")
    assert [row["step"] for row in log] == list(range(1, SETTINGS["steps"] + 1))
    assert log == read_log(
        reference / "log.jsonl"
    )  # losses, gradients, sample numbers and metrics, to the last bit
    ours, theirs = final_weights(run_dir), final_weights(reference)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    files = [
        sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (run_dir, reference)
    ]
    assert files[0] == files[1]  # nothing half-written is left


@pytest.fixture(scope="module")
def reference(forked_run, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("unkilled") / "run"
    assert not forked_run(run_dir, **SETTINGS)
    return run_dir


def kill_and_go_on(forked_run, run_dir, reference, number) -> bool:
    killed = forked_run(run_dir, kill_at=number, **SETTINGS)
    assert not forked_run(run_dir, **SETTINGS)
    assert_same_run(run_dir, reference)
    return killed


@pytest.mark.parametrize("number", [2, 7, 13, 15, 18, 20, 22, 24, 27, 35, 44, 50])
def test_killed_in_a_file_operation(forked_run, reference, tmp_path, number):
    assert kill_and_go_on(forked_run, tmp_path / "run", reference, number)


@pytest.mark.slow
def test_killed_in_every_file_operation(forked_run, reference, tmp_path):
    number = 1
    while kill_and_go_on(forked_run, tmp_path / str(number), reference, number):
        number += 1
    assert number > 45


def test_killed_again_and_again(forked_run, reference, tmp_path):
    generator = random.Random(0)
    kills, killed = 0, True
    while killed:
        killed = forked_run(tmp_path / "run", kill_at=generator.randint(10, 70), **SETTINGS)
        kills += killed
    assert_same_run(tmp_path / "run", reference)
    assert kills > 1


def test_killed_at_random_times(forked_run, reference, tmp_path):
    generator = random.Random(1)
    for attempt in range(5):
        run_dir = tmp_path / str(attempt)
        forked_run(run_dir, kill_after=generator.uniform(0.02, 0.3), **SETTINGS)
        forked_run(run_dir, **SETTINGS)
        assert_same_run(run_dir, reference)
