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


def run(work, finished=(False, False, False)):
    with ThreadPoolExecutor(1) as pool:
        arguments = [(k,) for k in range(3)]
        return run_all(pool, work, arguments, names=NAMES, finished=finished, what="cell")


def test_results_come_in_order_and_every_new_one_is_said(capsys):
    assert run(lambda k: k * 10) == [0, 10, 20]
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"about \d+", "about N", line) for line in lines] == [
        "cell 1/3, about N min left: none",
        "cell 2/3, about N min left: naive",
        "cell 3/3: targeted",
    ]


def test_what_was_there_before_is_counted_once(capsys):
    run(lambda k: k, finished=(True, False, True))
    assert capsys.readouterr().err.splitlines() == ["2 of 3 cells are finished already", "cell 3/3: naive"]


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
