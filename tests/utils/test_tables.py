"""Tables in the terminal and in markdown."""

import io

import pytest
from rich.console import Console

from cliptd.utils.tables import markdown_table, print_table

ROWS = [{"method": "none", "q_to_a": 26.84}, {"method": "a|b", "q_to_a": None, "seed": 1}]


def test_markdown():
    assert markdown_table(ROWS, digits=1).splitlines() == [
        "| method | q_to_a | seed |",
        "|---|---:|---:|",
        "| none | 26.8 |  |",
        "| a\\|b |  | 1 |",
    ]
    assert markdown_table(ROWS, ["method"]).splitlines()[2:] == ["| none |", "| a\\|b |"]


def test_terminal():
    shown = io.StringIO()
    print_table(ROWS, title="VCR", console=Console(file=shown, width=60))
    assert all(text in shown.getvalue() for text in ("VCR", "method", "26.84", "a|b"))


def test_nothing_to_show():
    with pytest.raises(ValueError, match="at least one row"):
        markdown_table([])
