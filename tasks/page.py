"""HTML pages in one file, readable on a phone: the report of a grid, the selection page."""

import html
import io
from base64 import b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliptd.utils.tables import column_names, formatted

if TYPE_CHECKING:
    from PIL.Image import Image

STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:1em auto;padding:0 .8em;line-height:1.45}"
    "h1,p,li{overflow-wrap:anywhere}h1{font-size:1.4em}h2{font-size:1.15em;margin-top:2em}img{display:block;width:100%;max-width:36em;height:auto}"
    "table{border-collapse:collapse}td,th{padding:.25em .8em;text-align:left;border-bottom:1px solid #ddd}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f5f5;padding:.6em}"
    ".verdict{border-left:4px solid #2a2;padding-left:1.8em}.verdict li{margin:.5em 0}"
    "@media(max-width:40em){table,tbody,tr,td{display:block}thead{display:none}"
    "tr{border:1px solid #ccc;border-radius:.4em;margin:.6em 0;padding:.2em 0}"
    "td{border:0;padding:.1em .6em;display:flex;gap:.8em}td:empty{display:none}"
    "td::before{content:attr(data-name);flex:0 0 40%;color:#666}}"
)
"""On a narrow screen each row of a table becomes a card with the columns' names beside the values."""


def page(title: str, parts: Sequence[str], *, style: str = "") -> str:
    """Return a whole page of parts that are HTML already; `style` is added to the style of all pages."""
    head = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style>"
    )
    return "\n".join([head, heading(1, title), *parts]) + "\n"


def heading(level: int, text: str) -> str:
    """Return a heading of a level from 1 to 6."""
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{html.escape(text)}</p>"


def bullets(texts: Sequence[str], kind: str) -> str:
    """Return a list whose class is `kind`."""
    return f"<ul class={kind}>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table; a column that a row lacks is an empty cell."""
    names = column_names(rows)
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-name="{html.escape(name)}">{html.escape(formatted(row.get(name)))}</td>'
            for name in names
        )
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(png: bytes, alternative: str) -> str:
    """Return an embedded PNG that is as wide as the screen at most."""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<img alt="{html.escape(alternative)}" src="{source}">'


def png(image: "Image") -> bytes:
    """Return an image as a PNG in RGB."""
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return file.getvalue()


def code(text: str) -> str:
    """Return text in a fixed-width font, whose long lines are broken."""
    return f"<pre>{html.escape(text)}</pre>"


def folded(summary: str, content: str) -> str:
    """Return HTML that is shown when its summary is touched."""
    return f"<details><summary>{html.escape(summary)}</summary>{content}</details>"
