"""Cells in a pool: results in order, what is said, and what a stop leaves."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from cliptd.utils.stopping import Stopped
from tasks.low_shot.processes import threads_of_each
from tasks.low_shot.progress import run_all

NAMES = ["none", "naive", "targeted"]


def run(work, finished=(False, False, False), at_a_time=1):
    with ThreadPoolExecutor(1) as pool:
        arguments = [(k,) for k in range(3)]
        options = {"names": NAMES, "finished": finished, "what": "cell", "at_a_time": at_a_time}
        return run_all(pool, work, arguments, **options)


def test_results_come_in_order_and_what_runs_is_said(capsys):
    assert run(lambda k: k * 10) == [0, 10, 20]
    assert capsys.readouterr().err.splitlines() == [
        "cell 1/3: none",
        "cell 2/3, less than a minute left: naive",
        "cell 3/3, less than a minute left: targeted",
        "all 3 cells are finished",
    ]


def test_several_that_run_at_the_same_time_are_named_together(capsys):
    run(lambda k: k, at_a_time=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "cells 1 to 2 of 3: none | naive"
    assert re.fullmatch(r"cells 2 to 3 of 3, .* left: naive \| targeted", lines[1])


def test_the_time_left_is_that_of_the_runs_that_are_left(capsys, monkeypatch):
    clock = iter([0.0, 120.0, 360.0, 480.0])
    monkeypatch.setattr("tasks.low_shot.progress.time.perf_counter", lambda: next(clock))
    run(lambda k: k)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1:3] == ["cell 2/3, about 4 min left: naive", "cell 3/3, about 3 min left: targeted"]


def test_what_was_there_before_is_counted_and_read_here(capsys):
    assert run(lambda k: k, finished=(True, False, True)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines() == [
        "2 of 3 cells are finished already",
        "cell 3/3: naive",
        "all 3 cells are finished",
    ]


def test_a_finished_list_needs_no_pool_and_says_nothing(capsys):
    options = {"names": NAMES[:1], "finished": [True], "what": "cell"}
    assert run_all(None, lambda k: k, [(5,)], **options) == [5]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "number"), [(KeyboardInterrupt(), signal.SIGINT), (Stopped(signal.SIGTERM), signal.SIGTERM)]
)
def test_a_stop_says_how_far_it_came(error, number):
    def work(k):
        if k == 1:
            raise error
        return k

    with pytest.raises(Stopped, match=r"^stopped with 1 of 3 cells finished$") as stopped:
        run(work)
    assert stopped.value.number == number


def test_a_process_that_ended_by_itself_is_an_error_with_a_mend():
    def work(k):
        raise BrokenProcessPool("gone")

    with pytest.raises(ValueError, match=r"0 of 3 cells finished; perhaps memory .* with fewer"):
        run(work)


@pytest.mark.parametrize(("asked", "cores", "processes", "threads"), [
    (None, 2, 1, 2), (None, 2, 2, 1), (None, 2, 8, 1), (None, 16, 3, 5),
    ("1", 16, 2, 1), ("nonsense", 4, 2, 2), ("0", 4, 2, 2),
])  # fmt: skip
def test_processes_share_the_cores_unless_the_user_says_otherwise(
    monkeypatch, asked, cores, processes, threads
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert threads_of_each(processes) == threads
