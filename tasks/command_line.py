"""Run a command: its options, an error in one line, a stop in one line, the exit codes that shells expect."""

import contextlib
import dataclasses
import functools
import io
import os
import re
import sys
import traceback
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from cliptd.utils.stopping import Stopped, raising_on_sigterm

USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors whose message says what to mend; others are faults of the program and keep their traceback."""
NOISE = (
    r".*'pin_memory' argument is set as true but no accelerator is found.*",
    r".*does not have many workers which may be a bottleneck.*",
)
"""What libraries warn of on a good run."""

Body = Callable[[list[str]], None]
Options = TypeVar("Options")
_flags: dict[str, str] = {}
"""Settings' fields by dotted path, and the flags that set them; filled by `parse_options`."""


class Command(Protocol):
    """A function that runs a command, of the process's own arguments if it is given none."""

    def __call__(self, arguments: Sequence[str] | None = None) -> None: ...


def command(body: Body) -> Command:
    """Make a command of a function of its arguments.

    The command takes `sys.argv[1:]` if it is called without arguments. It exits with 0 after success, 1 after an error,
    2 after an unknown option, 130 after Ctrl-C, 143 after SIGTERM, and 141 if nobody reads its output any more. With
    `--debug` among the arguments an error keeps its traceback.
    """

    @functools.wraps(body)
    def main(arguments: Sequence[str] | None = None) -> None:
        given = list(sys.argv[1:] if arguments is None else arguments)
        debug = "--debug" in given
        own = [argument for argument in given if argument != "--debug"]
        try:
            with raising_on_sigterm(), plain_warnings():
                body(own)
        except KeyboardInterrupt:
            _end("stopped; the same command goes on", 130)
        except Stopped as stop:
            _end(f"{stop}; the same command goes on", stop.exit_code)
        except BrokenPipeError:  # such as `… --help | head`
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what is still buffered goes nowhere
            raise SystemExit(141) from None
        except Exception as error:
            if debug or not _is_for_users(error):
                raise
            _end(f"error: {with_flags(' '.join(str(error).split()))} (--debug shows where)", 1)

    return main


def parse_options(
    kind: type[Options],
    arguments: Sequence[str],
    *,
    description: str | None,
    default: Options | None = None,
    prog: str | None = None,
) -> Options:
    """Parse a command line into a dataclass.

    Raises:
        ValueError: the dataclass refuses a value; the message names flags as they are typed.
        SystemExit: after --help (0), and after an option that does not exist or does not parse (2).
    """
    _flags.update(flags_of(kind))
    said = io.StringIO()
    about = None if description is None else as_started(description)
    try:
        with contextlib.redirect_stderr(said):
            parsed = tyro.cli(kind, args=list(arguments), default=default, description=about, prog=prog)
        assert parsed is not None  # it is of `kind`; the type of `default` hides this
        return parsed
    except SystemExit as end:
        refused = _refusal(end)
        if refused is not None:
            raise ValueError(with_flags(str(refused), _refused_part(end))) from None
        sys.stderr.write(said.getvalue())
        raise


def _refusal(end: SystemExit) -> ValueError | None:
    """Return the ValueError by which a dataclass refused its values and made tyro give up, if one did."""
    error: BaseException | None = end
    while error is not None:
        functions = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, ValueError) and "__post_init__" in functions:
            return error
        error = error.__context__
    return None


def _refused_part(end: SystemExit) -> str:
    """Return the path of the nested dataclass that tyro could not build; "" for the whole."""
    error: BaseException | None = end
    while error is not None:
        part = getattr(error, "arg", None)
        if isinstance(part, str):
            return part
        error = error.__context__
    return ""


def as_started(text: str) -> str:
    """Return a text with its command lines as this program was started: scripts of a checkout, or `cliptd`.

    >>> as_started("python scripts/export.py --model m; accelerate launch scripts/finetune_vcr.py")
    'cliptd export --model m; accelerate launch -m tasks.commands.finetune_vcr'
    """
    if Path(sys.argv[0]).parent.name == "scripts":
        return text
    text = re.sub(r"accelerate launch scripts/(\w+)\.py", r"accelerate launch -m tasks.commands.\1", text)
    return re.sub(r"python scripts/(\w+)\.py", r"cliptd \1", text)


def flags_of(kind: Any, path: str = "", prefix: str = "") -> dict[str, str]:
    """Return the flag of every field of a dataclass and of its nested dataclasses, by the field's dotted path.

    >>> @dataclasses.dataclass
    ... class Training:
    ...     batch_size: int = 1
    >>> @dataclasses.dataclass
    ... class Asked:
    ...     first: Training
    ...     then: tyro.conf.OmitArgPrefixes[Training]
    >>> flags_of(Asked)
    {'first.batch_size': '--first.batch-size', 'then.batch_size': '--batch-size'}
    """
    found: dict[str, str] = {}
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if dataclasses.is_dataclass(bare):
            own = prefix if bare is not hint else f"{prefix}{field.name}."  # OmitArgPrefixes is an annotation
            found |= flags_of(bare, f"{path}{field.name}.", own)
        else:
            found[path + field.name] = f"--{prefix}{field.name}".replace("_", "-")
    return found


def with_flags(message: str, part: str = "") -> str:
    """Name settings in a message as flags: those with an underscore, and those that the message begins with.

    Args:
        part: the path of the nested dataclass that the message is about, if that is known.
    """

    def flag(match: re.Match[str]) -> str:
        name = match[1]
        own = _flags.get(f"{part}.{name}")
        others = sorted((f for path, f in _flags.items() if path.rpartition(".")[2] == name), key=len)
        return own or (others[0] if others else name)

    message = re.sub(r"\bTrainingConfig\.", "", message)
    message = re.sub(r"^(\w+)(?= (?:has|is|are|holds) )", flag, message)
    return re.sub(r"(?<![\w./'\"-])([a-z]+(?:_[a-z]+)+)(?![\w./'\"(=])", flag, message)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line without a line of code; leave out what libraries warn of on a good run."""

    def formatted(message: Warning | str, category: type[Warning], *where: Any, **line: Any) -> str:
        return f"note: {' '.join(str(message).split())}\n"

    before = warnings.formatwarning
    warnings.formatwarning = formatted
    try:
        with warnings.catch_warnings():
            for pattern in NOISE:
                warnings.filterwarnings("ignore", message=pattern)
            yield
    finally:
        warnings.formatwarning = before


def _is_for_users(error: Exception) -> bool:
    return isinstance(error, USER_ERRORS) or type(error).__module__.startswith(("cliptd.", "tasks."))


def _end(line: str, exit_code: int) -> None:
    """Say how the command ended; of several processes each but the first says which it is."""
    rank = os.environ.get("RANK", "0")
    print(line if rank == "0" else f"process {rank}: {line}", file=sys.stderr, flush=True)
    raise SystemExit(exit_code)
