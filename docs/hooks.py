"""Hooks of the documentation's build: formulas as MathML, the page of the commands, files outside docs/.

- A fenced block of the language `math` becomes MathML, which browsers show without a script.
- reference/commands.md is made of what every command prints for `--help`.
- A page may link to a file of the repository outside docs/. The file is copied into the site.
"""

import contextlib
import importlib
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = "reference/commands.md"
WIDTH = "120"
"""Columns of the terminal that --help is printed for, at which options are one below the other."""
OUTSIDE = re.compile(r"(\]\()((?:\.\./)+)([^)#\s]+)(\))")
"""A Markdown link that leads up and out of the page's folder."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the Markdown extension of fenced blocks the language `math`."""
    fence = {"name": "math", "class": "math", "format": as_mathml}
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [fence]
    return config


def as_mathml(source: str, *_: Any, **__: Any) -> str:
    """Return a formula in MathML; each line of the block is a formula of its own."""
    rows = [convert(line, display="block") for line in source.splitlines() if line.strip()]
    return f'<div class="math">{"".join(rows)}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the commands, and the files outside docs/ that pages link to."""
    files.append(File.generated(config, COMMANDS, content=commands_page()))
    linked = set()
    for file in files.documentation_pages():
        if file.src_uri != COMMANDS:
            linked |= {target for _, target in outside_links(file.content_string, file.src_uri)}
    for target in sorted(linked):
        files.append(File.generated(config, f"repository/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links that lead out of docs/ to the copies in the site."""
    for link, target in outside_links(markdown, page.file.src_uri):
        up = "../" * page.file.src_uri.count("/")
        markdown = markdown.replace(f"]({link})", f"]({up}repository/{target})")
    return markdown


def outside_links(markdown: str, page: str) -> list[tuple[str, str]]:
    """Return the links of a page to files outside docs/: as they are written, and from the repository's root."""
    found = []
    folder = (ROOT / "docs" / page).parent
    for _, up, rest, _ in OUTSIDE.findall(markdown):
        path = (folder / up / rest).resolve()
        if path.is_file() and not path.is_relative_to(ROOT / "docs"):
            found.append((up + rest, path.relative_to(ROOT).as_posix()))
    return found


def commands_page() -> str:
    """Return the page of all commands: what each is for, and its options with their defaults."""
    sys.path.insert(0, str(ROOT))
    names = importlib.import_module("tasks.commands.__main__").names()
    parts = [
        "# Commands",
        "Each command has three spellings: `cliptd NAME`, `python scripts/NAME.py`, and\n"
        "`accelerate launch -m tasks.commands.NAME` for several GPUs. `cliptd` lists them all.\n"
        "Every command takes `--debug`, with which an error keeps its traceback.\n"
        "This page is made of what the commands print for `--help`.",
    ]
    return "\n\n".join(parts + [section(name) for name in names]) + "\n"


def section(name: str) -> str:
    """Return a command's section."""
    if name.startswith("finetune_"):  # whose defaults depend on the data
        about, embedded = read_help(help_of(name, "--help"))
        _, own = read_help(help_of(name, "--data-root", "DATA", "--help"))
        others = {flag: default for rows in own.values() for flag, _, _, default in rows}
        for rows in embedded.values():
            for row in rows:
                flag, _, _, default = row
                if others[flag] != default:
                    row[3] = f"{default} on the embedded benchmark, {others[flag]} on your own data"
    else:
        about, embedded = read_help(help_of(name, "--help"))
    tables = []
    for title, rows in embedded.items():
        lines = [f"**{title}**", ""] if title != "options" else []
        lines += ["| option | values | what it is | default |", "|---|---|---|---|"]
        for row in rows:
            flag, values, text, default = (cell(part) for part in row)
            lines.append(f"| `{flag}` | {f'`{values}`' if values else ''} | {text} | {default} |")
        tables.append("\n".join(lines))
    return "\n\n".join([f"## {name}", about, *tables])


def help_of(name: str, *arguments: str) -> str:
    """Return what a command prints for these arguments, which end in --help."""
    before = os.environ.get("COLUMNS"), sys.argv
    os.environ["COLUMNS"], sys.argv = WIDTH, [f"cliptd {name}"]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            importlib.import_module(f"tasks.commands.{name}").main(list(arguments))
    finally:
        sys.argv = before[1]
        if before[0] is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before[0]
    return printed.getvalue().replace(f"{ROOT}/", "")


def read_help(text: str) -> tuple[str, dict[str, list[list[str]]]]:
    """Return what a command is for, and its options by group: [flag, values, what it is, default] each.

    Raises:
        ValueError: the text holds no option, so its form is not the one that is known here.
    """
    head, *boxes = re.split(r"(?m)^ (\S.*?) *\n -{20,} *$", text)
    lines = [line.rstrip() for line in head.splitlines()[1:]]
    about = "\n".join(lines).strip("\n")
    about = re.sub(r"(?m)((?:^ {4,}\S.*\n?)+)", as_commands, f"{about}\n").strip()
    groups: dict[str, list[list[str]]] = {}
    for title, body in zip(boxes[::2], boxes[1::2], strict=True):
        rows: list[list[str]] = []
        for line in map(str.rstrip, body.splitlines()):
            option = re.match(
                r"  (-{1,2}[a-zA-Z][^\s,]*(?:, -[^\s,]+)*)(?: (\S+(?: \S+)*))?(?:  +(.*))?$", line
            )
            if option:
                rows.append([option[1], option[2] or "", option[3] or "", ""])
            elif rows and line.startswith("     "):
                rows[-1][2] = f"{rows[-1][2]} {line.strip()}".strip()
            elif rows and line:  # values that fill more than a line
                rows[-1][1] += line.strip()
        for row in rows:
            default = re.search(r"\((default: (.*)|required)\)$", row[2])
            if default:
                row[2] = row[2][: default.start()].strip()
                row[3] = "required" if default[1] == "required" else default[2]
        rows = [row for row in rows if row[0] != "-h, --help"]
        if rows:
            groups[title] = rows
    if not groups:
        raise ValueError(f"found no option in the help of a command, which begins {text[:80]!r}")
    return about, groups


def as_commands(match: re.Match[str]) -> str:
    """Return indented command lines of a help text as a fenced block, a backslash before each line that goes on."""
    text = "\n".join(re.sub(r" {4,}", " \\\n    ", line.strip()) for line in match[0].splitlines())
    return f"```bash\n{text}\n```\n"


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
