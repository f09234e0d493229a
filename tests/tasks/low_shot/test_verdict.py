"""The verdict of a grid: who leads, by how much, and whether that is sure."""

import pytest

from tasks.low_shot.grid import Grid, Outcome
from tasks.low_shot.verdict import verdict


def rows(method, scores, labelled=10):
    return [
        {"method": method, "seed": seed, "labelled": labelled, "test_set": "test", "q": score}
        for seed, score in enumerate(scores)
    ]


def said(*found, methods=("none", "naive", "targeted")):
    grid = Grid(out="x", items=(10, 20), methods=methods)
    return verdict(grid, Outcome(rows=[row for part in found for row in part]), main="q", name="Q→A")


def test_a_sure_lead_and_an_unsure_one():
    text = said(rows("none", [50, 51, 52]), rows("naive", [60, 58, 62]), rows("targeted", [61, 57, 63]))
    assert text == [
        "10 labels, test: targeted is the best with 60.3 % Q→A: +9.3 points over none (95 % interval +6.0 to +11.0, "
        "3 seeds), +0.3 points over naive (95 % interval -1.0 to +1.0, 3 seeds: not conclusive)."
    ]


@pytest.mark.parametrize(("count", "seeds"), [(1, "one seed"), (2, "2 seeds")])
def test_fewer_than_three_seeds_have_no_interval(count, seeds):
    (text,) = said(rows("none", [50, 51][:count]), rows("targeted", [60, 61][:count]))
    assert text.endswith(f": +10.0 points over none ({seeds}: not conclusive).")


def test_a_lead_is_over_the_seeds_that_both_have():
    (text,) = said(rows("none", [50, 51, 52]), rows("targeted", [60]))
    assert text.endswith("+10.0 points over none (one seed: not conclusive).")


def test_none_may_be_the_best_and_every_number_of_labels_has_its_sentence():
    text = said(rows("none", [50, 50, 50]), rows("naive", [40, 41, 42]), rows("none", [70], 20))
    assert text[0] == "No method beats none at any number of labels."
    assert text[1].startswith("10 labels, test: none is the best with 50.0 % Q→A: +9.0 points over naive")
    assert text[2] == "20 labels, test: none is the best with 70.0 % Q→A."


@pytest.mark.parametrize(
    ("at_20", "text"),
    [
        ((50, 51, 52), "No method is the best everywhere; the lead over none is conclusive at 10 labels."),
        (
            (60, 58, 63),
            "Targeted is the best at every number of labels; the lead over none is conclusive everywhere.",
        ),
        (
            (60, 40, 60),
            "Targeted is the best at every number of labels; the lead over none is conclusive at 10 labels.",
        ),
    ],
)
def test_the_first_sentence_is_about_all_numbers_of_labels(at_20, text):
    none = rows("none", [50, 51, 52]), rows("none", [52, 51, 50], 20)
    assert (
        said(*none, rows("targeted", [61, 58, 63]), rows("targeted", at_20, 20))[0].replace("51.0", "")
        == text
    )


def test_a_control_that_wins_is_called_one():
    found = said(rows("none", [50]), rows("teacher_input", [60]), methods=("none", "teacher_input"))
    assert "teacher_input (a control) is the best" in found[0]


def test_nothing_scored_is_said():
    assert said() == ["No test set was scored."]
