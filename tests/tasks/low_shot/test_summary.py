"""The table of a grid, against numbers by hand."""

from tasks.low_shot.grid import Outcome
from tasks.low_shot.summary import summary
from tests.tasks.low_shot.rows import GRID, ROWS


def test_gains_are_of_the_same_seeds_and_validation_is_left_out():
    none, targeted = summary(GRID, Outcome(rows=ROWS), {"accuracy": "accuracy"}, main="accuracy")
    assert none == {
        "test set": "test",
        "labelled": 10,
        "method": "none",
        "seeds": 3,
        "accuracy": "50.0 ± 10.0",
    }
    assert targeted["accuracy"] == "53.0 ± 10.5"
    assert targeted["gain"] == "+6 %"  # 3 of 50
    assert targeted["difference [95 %]"] == "+3.0 [+2.0, +4.0]"  # differences 2, 4, 3


def test_a_method_with_other_seeds_is_compared_over_the_shared_ones():
    rows = [r for r in ROWS if not (r["method"] == "targeted" and r["seed"] == 3)]
    targeted = summary(GRID, Outcome(rows=rows), {"accuracy": "accuracy"}, main="accuracy")[1]
    assert (targeted["seeds"], targeted["gain"]) == (2, "+7 %")  # 3 of 45
    assert targeted["difference [95 %]"] == "+3.0"  # of two seeds an interval says nothing
    alone = [r for r in ROWS if r["method"] == "targeted"]
    assert "gain" not in summary(GRID, Outcome(rows=alone), {"accuracy": "accuracy"}, main="accuracy")[0]


def test_the_teacher_itself_is_the_last_line_of_its_test_set():
    teacher = [{"test_set": "test", "accuracy": 71.25, "items": 4}, {"test_set": "unasked", "accuracy": 1.0}]
    lines = summary(GRID, Outcome(rows=ROWS, teacher=teacher), {"accuracy": "accuracy"}, main="accuracy")
    assert [line["method"] for line in lines] == ["none", "targeted", "the teacher itself"]
    assert lines[-1]["accuracy"] == "71.2"
    assert "gain" not in lines[-1]
