"""What a run folder shows people: tables in the terminal and in markdown, and the learning curve."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def column_names(rows: Sequence[Row]) -> list[str]:
    """All columns in the order in which the rows first use them."""
    return list(dict.fromkeys(name for row in rows for name in row))


def formatted(value: Any, digits: int = 2) -> str:
    """A cell: floats with `digits` decimals, nothing for None.

    >>> [formatted(value) for value in (0.123, 7, "ViLT", None)]
    ['0.12', '7', 'ViLT', '']
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def markdown_table(rows: Sequence[Row], columns: Sequence[str] | None = None, *, digits: int = 2) -> str:
    """A GitHub table, numbers to the right; a row without a column leaves its cell empty.

    Raises:
        ValueError: there are no rows.

    >>> print(markdown_table([{"method": "none", "q_to_a": 26.8}, {"method": "targeted", "q_to_a": 54.3}]))
    | method | q_to_a |
    |---|---:|
    | none | 26.80 |
    | targeted | 54.30 |
    """
    columns = _checked(rows, columns)
    cells = [columns, *([formatted(row.get(name), digits) for name in columns] for row in rows)]
    head, *body = ["| " + " | ".join(map(_escaped, line)) + " |" for line in cells]
    rule = "|" + "|".join("---:" if _is_numeric(rows, name) else "---" for name in columns) + "|"
    return "\n".join([head, rule, *body])


def print_table(
    rows: Sequence[Row],
    columns: Sequence[str] | None = None,
    *,
    title: str | None = None,
    digits: int = 2,
    console: Console | None = None,
) -> None:
    """The same table in the terminal."""
    columns = _checked(rows, columns)
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="right" if _is_numeric(rows, name) else "left")
    for row in rows:
        table.add_row(*(formatted(row.get(name), digits) for name in columns))
    (console or Console()).print(table)


def plot_learning_curve(
    log: str | Path | Sequence[Row], path: str | Path, *, metric: str | None = None
) -> Path:
    """Draw the loss and, where evaluated, the metrics (or only `metric`) over the steps.

    Args:
        log: a run's log.jsonl or its rows ({"step", "loss", "metrics"}).
        path: the picture to write; its suffix chooses the format.

    Raises:
        ValueError: the log has no step.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a plot only: keep it out of every import
    from matplotlib.figure import Figure

    rows = _read_rows(Path(log)) if isinstance(log, str | Path) else list(log)
    if not rows:
        raise ValueError(f"{log if isinstance(log, str | Path) else 'the log'} has no step, nothing to plot")
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses = figure.subplots()
    losses.plot([row["step"] for row in rows], [row["loss"] for row in rows], color="tab:gray", label="loss")
    losses.set(xlabel="step", ylabel="training loss")
    evaluated = [row for row in rows if "metrics" in row]
    names = [metric] if metric else column_names([row["metrics"] for row in evaluated])
    if evaluated:
        scores = losses.twinx()
        for number, name in enumerate(names):
            points = [(row["step"], row["metrics"][name]) for row in evaluated if name in row["metrics"]]
            scores.plot(*zip(*points, strict=True), marker="o", color=f"C{number}", label=name)
        scores.set_ylabel("validation")
        scores.legend(loc="center right")
    figure.savefig(path, dpi=120)
    return Path(path)


def write_report(
    run_dir: str | Path, rows: Sequence[Row], *, title: str, notes: str = "", digits: int = 2
) -> Path:
    """Write metrics.json, report.md and, where there is a log.jsonl, learning_curve.png into a run folder.

    Returns:
        The path of report.md.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "metrics.json").write_text(json.dumps(list(rows), indent=2) + "\n", encoding="utf-8")
    parts = [f"# {title}", markdown_table(rows, digits=digits), notes]
    if (run_dir / "log.jsonl").exists():
        plot_learning_curve(run_dir / "log.jsonl", run_dir / "learning_curve.png")
        parts.append("![learning curve](learning_curve.png)")
    report = run_dir / "report.md"
    report.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return report


def _checked(rows: Sequence[Row], columns: Sequence[str] | None) -> list[str]:
    if not rows:
        raise ValueError("a table needs at least one row, got none")
    return list(columns or column_names(rows))


def _is_numeric(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
