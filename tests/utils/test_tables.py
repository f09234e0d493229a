"""Tables in the terminal and in markdown."""

import pytest

from cliptd.utils.tables import markdown_table, print_table

ROWS = [{"method": "none", "q_to_a": 26.84}, {"method": "a|b", "q_to_a": None, "seed": 1}]


def test_markdown():
    assert markdown_table(ROWS, digits=1).splitlines() == [
        "| method | q_to_a | seed |",
        "|---|---:|---:|",
        "| none | 26.8 |  |",
        "| a\\|b |  | 1 |",
    ]
    assert markdown_table([{"method": row["method"]} for row in ROWS]).splitlines()[2:] == [
        "| none |",
        "| a\\|b |",
    ]


def test_terminal(capsys):
    print_table(ROWS, title="VCR")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("VCR", "method", "26.84", "a|b"))


def test_nothing_to_show():
    with pytest.raises(ValueError, match="at least one row"):
        markdown_table([])
