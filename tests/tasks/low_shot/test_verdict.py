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
        "10 labels, test: targeted is the best with 60.3 % Q→A; over none +9.3 points [+6.0, +11.0] over 3 seeds, over "
        "naive +0.3 points [-1.0, +1.0] over 3 seeds: not conclusive."
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_have_no_interval(count):
    (text,) = said(rows("none", [50, 51][:count]), rows("targeted", [60, 61][:count]))
    assert text.endswith(f"over none +10.0 points ({count} shared seeds: not conclusive).")


def test_none_may_be_the_best_and_every_number_of_labels_has_its_sentence():
    text = said(rows("none", [50, 50, 50]), rows("naive", [40, 41, 42]), rows("none", [70], 20))
    assert text[0].startswith("10 labels, test: none is the best with 50.0 % Q→A; over naive +9.0 points")
    assert text[1] == "20 labels, test: none is the best with 70.0 % Q→A."


def test_nothing_scored_is_said():
    assert said() == ["No test set was scored."]
