"""The command lines of a block of bash, each parsed by the program that it names; nothing is run."""

import argparse
import contextlib
import dataclasses
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from unittest import mock

import tyro
from accelerate.commands.launch import launch_command_parser

from tests.docs.blocks import ROOT

NOT_OURS = (
    "git",
    "cd",
    "python -m venv",
    "source",
    "pre-commit",
    "head",
    "mkdocs",
    "ruff",
    "codespell",
    "mypy",
    "bash",
)
"""Beginnings of lines whose programs are not checked."""


class Parsed(BaseException):
    """The program has parsed its arguments and would begin to work now."""


def lines_of(text: str) -> list[list[str]]:
    """Return the words of each command in a block: lines are joined at a backslash and split at `&&`.

    >>> lines_of("cd x && python a.py \\\\\\n  --b 'c d'  # why")
    [['cd', 'x'], ['python', 'a.py', '--b', 'c d']]
    """
    found: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            found.append(words[: words.index("&&")])
            words = words[words.index("&&") + 1 :]
        if words:
            found.append(words)
    return found


def check(words: list[str]) -> None:
    """Parse one command line.

    Raises:
        AssertionError: the program, an option or a value is unknown; the message says which.
    """
    line = shlex.join(words)
    if any(line == known or line.startswith(f"{known} ") for known in NOT_OURS):
        return
    if words[0] == "pip":
        check_pip(words)
    elif words[0] == "pytest":
        check_pytest(words)
    elif words[:2] == ["accelerate", "launch"]:
        asked = launch_command_parser().parse_args(words[2:])
        check_program(["-m"] * bool(asked.module) + [asked.training_script, *asked.training_script_args])
    elif words[0] == "python":
        check_program(words[1:])
    elif words[0] == "cliptd":
        if len(words) > 1:
            check_program(["-m", f"tasks.commands.{words[1]}", *words[2:]])
    else:
        raise AssertionError(f"no check knows the program of {line!r}")


def check_pip(words: list[str]) -> None:
    """Check that a line installs this repository with extras that exist."""
    assert words[:3] == ["pip", "install", "-e"], words
    known = re.findall(r'^ +"(\w+)": ', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    for extra in re.findall(r"\w+", words[3].partition("[")[2]):
        assert extra in known, f"setup.py has no extra {extra!r}; it has {known}"


def check_pytest(words: list[str]) -> None:
    """Check that the files that a line names exist."""
    for word in words[1:]:
        assert not word.endswith(".py") or (ROOT / word).exists(), f"no file {word}"


def check_program(words: list[str]) -> None:
    """Parse the arguments of a script, or of a module after "-m"."""
    module = words[0] == "-m"
    name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
    with parsing_only(), mock.patch.object(sys, "argv", [name, *arguments]):
        try:
            if module:
                runpy.run_module(name, run_name="__main__", alter_sys=False)
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")
        except Parsed:
            return
        except SystemExit as end:
            raise AssertionError(f"{shlex.join(words)} was refused with {end.code}") from end
    raise AssertionError(f"{shlex.join(words)} ended without parsing its arguments")


@contextlib.contextmanager
def parsing_only() -> Iterator[None]:
    """End every program that parses its arguments, by tyro or by argparse, as soon as it has."""
    real_cli, real_parse, inside_tyro = tyro.cli, argparse.ArgumentParser.parse_args, []

    def cli(kind, *arguments, **options):
        inside_tyro.append(kind)
        try:
            found = real_cli(kind, *arguments, **options)
        finally:
            inside_tyro.pop()
        names = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else {}
        if "task" in names and options.get("args") is not None:  # a command whose task's own options follow
            return found
        raise Parsed

    def parse_args(self, *arguments, **options):
        found = real_parse(self, *arguments, **options)
        if not inside_tyro:
            raise Parsed
        return found

    with (
        mock.patch.object(tyro, "cli", cli),
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args),
    ):
        yield
