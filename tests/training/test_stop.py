"""Ctrl-C and SIGTERM: the step is finished and saved, and the same call ends in the same weights."""

import multiprocessing
import os
import signal
import threading

import pytest
from accelerate import PartialState

from cliptd.training import loop, read_log
from cliptd.utils.stopping import Stopped, stop_request
from tests.helpers.small_run import run
from tests.training.test_kill import SETTINGS, assert_same_run


@pytest.fixture(autouse=True)
def hears_ctrl_c():
    """Hear Ctrl-C, which a background job begins with ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def reference(forked_run, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("unstopped") / "run"
    assert not forked_run(run_dir, **SETTINGS)
    return run_dir


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 1, 2, 3, 4])
def test_a_stopped_run_goes_on_to_the_same_weights(forked_run, reference, tmp_path, step, number):
    run_dir = tmp_path / "run"
    assert forked_run(run_dir, stop=[step, 0, number], **SETTINGS)
    assert [row["step"] for row in read_log(run_dir / "log.jsonl")] == list(range(1, step + 2))
    (checkpoint,) = (run_dir / "checkpoints").iterdir()
    assert (
        checkpoint.name == f"step-{step + 1:08d}"
    )  # though 3 is the only multiple of save_every before the end
    assert not forked_run(run_dir, **SETTINGS)
    assert_same_run(run_dir, reference)


def test_a_stop_in_the_last_step_is_a_finished_run(forked_run, reference, tmp_path):
    assert not forked_run(tmp_path / "run", stop=[SETTINGS["steps"] - 1, 0, signal.SIGTERM], **SETTINGS)
    assert_same_run(tmp_path / "run", reference)


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_stop_at_the_same_step(forked_run, tmp_path, rank):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert not forked_run(whole, processes=2, **SETTINGS)
    assert forked_run(stopped, processes=2, stop=[1, rank, signal.SIGTERM], **SETTINGS)
    assert [row["step"] for row in read_log(stopped / "log.jsonl")] == [1, 2]
    assert not forked_run(stopped, processes=2, **SETTINGS)
    assert_same_run(stopped, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_prepare_batches_finish_the_step(tmp_path, monkeypatch, number, capfd):
    seed = loop.seed_generators

    def seeding(*parts, **options):
        if parts[1:4] == ("forward", 1, 0):  # as a terminal and batch systems do: to the whole group
            for process in [*multiprocessing.active_children(), multiprocessing.current_process()]:
                os.kill(process.pid, number)
        return seed(*parts, **options)

    monkeypatch.setattr(loop, "seed_generators", seeding)
    options = {**SETTINGS, "num_workers": 2, "micro_batch_size": 4}
    with pytest.raises(Stopped, match="at step 2 of 6"):
        run(tmp_path / "run", **options)
    assert capfd.readouterr().err.count("stopping after this step") == 1
    monkeypatch.setattr(loop, "seed_generators", seed)
    run(tmp_path / "run", **options)
    run(tmp_path / "whole", **options)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_the_stop_names_its_step_and_handlers_are_put_back(tmp_path, monkeypatch, capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seed = loop.seed_generators

    def seeding(*parts, **options):
        if parts[1:3] == ("forward", 1):
            signal.raise_signal(signal.SIGINT)
        return seed(*parts, **options)

    monkeypatch.setattr(loop, "seed_generators", seeding)
    with pytest.raises(Stopped, match=r"^stopped at step 2 of 6$") as stopped:
        run(tmp_path, **SETTINGS)
    assert stopped.value.exit_code == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    monkeypatch.setattr(loop, "seed_generators", seed)
    run(tmp_path, **SETTINGS)
    assert "training: goes on from step 2 of 6" in capsys.readouterr().err
    run(tmp_path, **SETTINGS)
    assert "training: finished before, at step 6" in capsys.readouterr().err
    assert PartialState().num_processes == 1


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(monkeypatch, second):
    with stop_request() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.number == signal.SIGINT
        monkeypatch.setattr(request, "time", request.time - 1.1)
        with pytest.raises(Stopped):
            signal.raise_signal(second)


def test_the_same_ctrl_c_from_terminal_and_launcher_is_one_request(capsys):
    with stop_request() as request:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert request.number == signal.SIGINT
    assert capsys.readouterr().err == "stopping after this step; once more to stop at once\n"


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_request() as request:
        signal.raise_signal(signal.SIGINT)
        assert request.number == 0


def test_other_threads_handle_no_signals():
    found = []

    def work():
        with stop_request() as request:
            found.append(request.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
