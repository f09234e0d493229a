"""A page of test examples that the methods answer rightly or wrongly, with their images."""

import html
from collections.abc import Mapping, Sequence
from itertools import product

from PIL import Image

from cliptd.utils.files import write_atomically
from tasks import page
from tasks.batches.answered import Answered, evenly_spaced
from tasks.finetuning.results import EXAMPLES
from tasks.settings import FinetuneSettings
from tasks.task import Task

READ = 1000
"""The most examples of the test set that are looked through."""
SHOWN = 6
"""The most examples of each group on the page."""
SIDE = 256
"""Pixels of the longer side of an image on the page."""


def write_examples_page(settings: FinetuneSettings, task: Task) -> None:
    """Write `run_dir`/examples.html from the predictions on the first test set, if there is one."""
    if not task.tests:
        return
    name, dataset = next(iter(task.tests.items()))
    answers = {
        method: task.answered(dataset, settings.run_dir / method / f"predictions_{name}", most=READ)
        for method in settings.methods
    }
    write_atomically(
        settings.run_dir / EXAMPLES, examples_page(f"{settings.task}: answers on {name}", answers)
    )


def examples_page(title: str, answers: Mapping[str, Sequence[Answered]]) -> str:
    """Return the HTML page, in groups of examples that the same methods answer rightly.

    Groups in which the methods differ come first.

    Args:
        answers: of each method, to the same examples in the same order.
    """
    methods = list(answers)
    rows = list(zip(*answers.values(), strict=True))
    parts = [
        page.paragraph(f"Of {len(rows)} examples, evenly spaced in the test set, {SHOWN} a group at most.")
    ]
    outcomes = sorted(product((False, True), repeat=len(methods)), key=lambda outcome: len({*outcome}) == 1)
    for outcome in outcomes:
        found = [row for row in rows if tuple(one.is_right for one in row) == outcome]
        if found:
            parts.append(page.heading(2, f"{_group(methods, outcome)}: {len(found)} of {len(rows)}"))
            parts += [_section(methods, found[k]) for k in evenly_spaced(len(found), SHOWN)]
    return page.page(title, parts, style=_STYLE)


def _group(methods: Sequence[str], outcome: Sequence[bool]) -> str:
    right = [method for method, is_right in zip(methods, outcome, strict=True) if is_right]
    wrong = [method for method in methods if method not in right]
    named = (("right", right), ("wrong", wrong))
    return ", ".join(f"{word} with {' and '.join(group)}" for word, group in named if group)


def _section(methods: Sequence[str], row: Sequence[Answered]) -> str:
    example = row[0]
    lines = [
        f"<p><b>{html.escape(example.question)}</b></p><p>Right answer: {html.escape(example.right)}</p>"
    ]
    for method, one in zip(methods, row, strict=True):
        mark, kind = ("✓", "yes") if one.is_right else ("✗", "no")
        lines.append(f"<p class={kind}>{mark} {html.escape(method)}: {html.escape(one.given)}</p>")
    shown = page.picture(page.png(_resized(example.image())), example.question)
    return f"<section>{shown}<div>{''.join(lines)}</div></section>"


def _resized(image: Image.Image) -> Image.Image:
    scale = SIDE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


_STYLE = (
    "section{display:flex;flex-wrap:wrap;gap:1.2em;margin:1em 0;border-top:1px solid #ddd;padding-top:.8em}"
    "section>div{flex:1 1 16em}section>img{flex:0 0 auto;width:min(100%,12em);align-self:flex-start}"
    "section p{margin:.3em 0}.yes{color:#175}.no{color:#a22}"
)
