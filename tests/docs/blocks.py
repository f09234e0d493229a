"""The code blocks of a Markdown page, and what can be said of one without running it."""

import ast
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tasks").rglob("README.md"))
)
"""Every page of documentation, from the repository's root."""
ONLY_CHECKED = "<!-- only checked:"
"""The beginning of the line above a block of Python that cannot run offline; a reason follows."""
BLOCK = re.compile(r"^( *)(?:(<!--.*?-->)\n\1)?```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment in the line above it."""

    language: str
    text: str
    comment: str

    @property
    def only_checked(self) -> bool:
        """Return whether the block is not run."""
        return self.comment.startswith(ONLY_CHECKED)


def blocks_of(page: str, language: str) -> list[Block]:
    """Return the blocks of one language on a page, in order."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [
        Block(tongue, textwrap.dedent(text), comment)
        for _, comment, tongue, text in found
        if tongue == language
    ]


def check_names(code: str, names: dict[str, Any]) -> None:
    """Compile a block and check that imported names exist, and the keyword arguments of calls to known functions.

    Args:
        names: what earlier blocks of the page have defined; imported names are added.

    Raises:
        SyntaxError, ImportError, AttributeError, TypeError: naming what does not exist.
    """
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(compile(ast.Module([node], []), "<block>", "exec"), names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            check_call(node, names)


def check_call(call: ast.Call, names: dict[str, Any]) -> None:
    """Check the keyword arguments of one call, if its function is known. Raises AttributeError or TypeError."""
    dotted = ast.unparse(call.func)
    first, *rest = dotted.split(".")
    if not re.fullmatch(r"[\w.]+", dotted) or first not in names:
        return
    function = names[first]
    for part in rest:
        if inspect.ismodule(function) or inspect.isclass(function) or hasattr(function, part):
            function = getattr(function, part)
        else:
            return
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # of C
        return
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for keyword in call.keywords:
        if keyword.arg is not None and keyword.arg not in parameters and not takes_any:
            raise TypeError(f"{dotted} takes no argument {keyword.arg!r}; it has {', '.join(parameters)}")
