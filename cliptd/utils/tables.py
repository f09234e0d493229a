"""Tables for people: in the terminal and in markdown."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def column_names(rows: Sequence[Row]) -> list[str]:
    """Return all columns, in the order in which the rows first use them."""
    return list(dict.fromkeys(name for row in rows for name in row))


def formatted(value: Any, digits: int = 2) -> str:
    """Return the text of a cell: floats with `digits` decimals, nothing for None.

    >>> [formatted(value) for value in (0.123, 7, "ViLT", None)]
    ['0.12', '7', 'ViLT', '']
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def markdown_table(rows: Sequence[Row], *, digits: int = 2) -> str:
    """Return a GitHub table with numbers on the right. A column that a row lacks is an empty cell.

    Raises:
        ValueError: there are no rows.

    >>> print(markdown_table([{"method": "none", "q_to_a": 26.8}, {"method": "targeted", "q_to_a": 54.3}]))
    | method | q_to_a |
    |---|---:|
    | none | 26.80 |
    | targeted | 54.30 |
    """
    columns = _checked(rows)
    cells = [columns, *([formatted(row.get(name), digits) for name in columns] for row in rows)]
    head, *body = ["| " + " | ".join(map(_escaped, line)) + " |" for line in cells]
    rule = "|" + "|".join("---:" if _is_numeric(rows, name) else "---" for name in columns) + "|"
    return "\n".join([head, rule, *body])


def print_table(rows: Sequence[Row], *, title: str | None = None, digits: int = 2) -> None:
    """Print the table of `markdown_table` in the terminal. Raises ValueError if there are no rows."""
    columns = _checked(rows)
    table = Table(title=title)
    for name in columns:
        table.add_column(name, justify="right" if _is_numeric(rows, name) else "left")
    for row in rows:
        table.add_row(*(formatted(row.get(name), digits) for name in columns))
    Console().print(table)


def _checked(rows: Sequence[Row]) -> list[str]:
    if not rows:
        raise ValueError("a table needs at least one row, got none")
    return column_names(rows)


def _is_numeric(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, int | float) for value in values)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
