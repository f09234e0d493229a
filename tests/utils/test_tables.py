"""Tables and pictures of a run folder."""

import io
import json

import pytest
from PIL import Image
from rich.console import Console

from cliptd.utils.tables import markdown_table, plot_learning_curve, print_table, write_report

ROWS = [{"method": "none", "q_to_a": 26.84}, {"method": "a|b", "q_to_a": None, "seed": 1}]
LOG = [
    {"step": 1, "loss": 1.5},
    {"step": 2, "loss": 1.0, "metrics": {"q_to_a": 0.3}},
    {"step": 3, "loss": 0.8},
    {"step": 4, "loss": 0.7, "metrics": {"q_to_a": 0.5, "qa_to_r": 0.4}},
]


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


def test_a_run_folder(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in LOG))
    report = write_report(tmp_path, ROWS, title="A run", notes="One note.")
    text = report.read_text()
    assert text.startswith("# A run\n\n| method |")
    assert "One note.\n\n![learning curve](learning_curve.png)\n" in text
    assert json.loads((tmp_path / "metrics.json").read_text()) == ROWS
    assert Image.open(tmp_path / "learning_curve.png").size == (840, 480)


def test_curves_with_and_without_metrics(tmp_path):
    sizes = {
        plot_learning_curve(rows, tmp_path / f"{name}.png", metric=metric).stat().st_size
        for name, rows, metric in [("all", LOG, None), ("one", LOG, "qa_to_r"), ("loss", LOG[:1], None)]
    }
    assert len(sizes) == 3


def test_nothing_to_show(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        markdown_table([])
    with pytest.raises(ValueError, match="has no step, nothing to plot"):
        plot_learning_curve([], tmp_path / "x.png")
