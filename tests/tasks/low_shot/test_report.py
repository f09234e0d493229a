"""The report of a grid: verdict first, words for methods, costs, settings, and a page for phones."""

import json
import re

import pytest

from tasks.known_tasks import TASKS
from tasks.low_shot.cells import RESUMED
from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.kept_settings import keep_settings
from tasks.low_shot.report import METHODS, write_report
from tests.tasks.low_shot.rows import ROWS

METRICS = {"accuracy": "accuracy"}
TUNING = [{"method": "none", "learning rate": "0.001", "validation": "50.00"}]


@pytest.fixture
def grid(tmp_path):
    return Grid(out=tmp_path, items=(10,), methods=("none", "targeted"), seeds=(1, 2, 3))


def report(grid, outcome, task="snli_ve"):
    write_report(grid, outcome, METRICS, known=TASKS[task], title="A <title>", command="python x.py")
    return (grid.out / "report.md").read_text(), (grid.out / "report.html").read_text()


def cell(grid, method, seed, seconds, resumed=False):
    folder = grid.out / "cells" / f"{method}_seed{seed}"
    folder.mkdir(parents=True)
    hardware = {"platform": "Linux", "cores": 2, "threads": 1, "gpus": []}
    content = {
        "seconds": {method: seconds},
        "peak_memory": {"process_bytes": (2 + seed) * 2**30},
        "hardware": hardware,
        "versions": {"torch": "2.0"},
    }
    (folder / "results.json").write_text(json.dumps(content))
    if resumed:
        (folder / RESUMED).touch()


def test_it_begins_with_the_verdict_and_holds_methods_curves_tuning_and_command(grid):
    markdown, page = report(grid, Outcome(ROWS, TUNING))
    assert "`python x.py`" in markdown
    assert markdown.startswith(
        "# A <title>\n\n- 10 labels, test: targeted is the best with 53.0 % accuracy: +3.0 points over none"
    )
    assert f"| targeted | {METHODS['targeted']} |" in markdown
    assert "| none | 0.001 | 50.00 |" in markdown
    assert "A &lt;title&gt;" in page
    assert page.index("Verdict") < page.index("Methods") < page.index("<img") < page.index("Settings")
    assert '<td data-name="difference [95 %]">+3.0 [+2.0, +4.0]</td>' in page
    assert page.count("data:image/png;base64,") == 1
    assert (grid.out / "curve_test.png").read_bytes()[:4] == b"\x89PNG"


def test_a_phone_shows_it(grid):
    _, page = report(grid, Outcome(ROWS))
    assert "<meta name=viewport content='width=device-width,initial-scale=1'>" in page
    assert "@media(max-width:40em)" in page
    assert not re.search(r"src=.?(?!\"?data:)", page.replace('src="data:', ""))  # nothing beside the file


def test_the_teachers_score_says_how_it_was_measured_or_why_it_is_not(grid):
    teacher = [{"test_set": "test", "accuracy": 71.25, "items": 1234}]
    markdown, page = report(grid, Outcome(ROWS, teacher=teacher), task="vcr")
    assert "| the teacher itself |  | 71.2 |" in markdown
    assert "most probably belongs to the whole image" in markdown
    assert "1,234 of test" in page
    assert "The teacher itself has no score here" in report(grid, Outcome(ROWS))[0]


def test_time_and_memory_are_of_runs_that_were_not_interrupted(grid):
    cell(grid, "none", 1, 60)
    cell(grid, "none", 2, 120)
    cell(grid, "none", 3, 1, resumed=True)
    cell(grid, "targeted", 1, 240)
    markdown, _ = report(grid, Outcome(ROWS))
    assert "| none | 2 | 1.50 | 3.00 |" in markdown
    assert "| targeted | 1 | 4.00 | 3.00 |" in markdown
    assert "4 cells on Linux, 2 cores, 1 threads a process, no GPU; torch 2.0." in markdown


def test_results_json_holds_everything_and_stays_as_it_is(grid):
    keep_settings(grid.out, {"training": {"steps": 7}})
    cell(grid, "none", 1, 60)
    report(
        grid, Outcome(ROWS, TUNING, rates={"none": 0.001, "targeted": 0.002}, diverged=["none_seed9: nan"])
    )
    path = grid.out / "results.json"
    found = json.loads(path.read_text())
    assert found["verdict"][0].startswith("10 labels, test: targeted is the best")
    assert found["learning_rates"] == {"none": 0.001, "targeted": 0.002}
    assert (found["settings"], found["grid"]["items"]) == ({"training": {"steps": 7}}, [10])
    assert found["cost"][0]["minutes a run"] == 1.0
    assert found["environments"][0]["hardware"]["cores"] == 2
    assert "torch" in found["versions"]
    before = path.stat().st_mtime_ns
    markdown, _ = report(
        grid, Outcome(ROWS, TUNING, rates={"none": 0.001, "targeted": 0.002}, diverged=["none_seed9: nan"])
    )
    assert path.stat().st_mtime_ns == before
    assert "| steps | 7 |" in markdown
    assert "1 runs diverged and are in no mean: none_seed9: nan" in markdown


def test_a_grid_without_the_main_metric_takes_the_first_and_a_lost_grid_says_so(grid):
    assert "53.0 % accuracy" in report(grid, Outcome(ROWS), task="vcr")[0]
    assert report(grid, Outcome())[0].startswith("# A <title>\n\n- No test set was scored.")


def test_every_method_has_its_words():
    from typing import get_args

    from cliptd.targeted.config import Method

    assert set(METHODS) == set(get_args(Method))
