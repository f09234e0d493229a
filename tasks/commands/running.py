"""Run a command: an error in one line, a stop in one line, the exit codes that shells expect."""

import functools
import sys
from collections.abc import Callable, Sequence

from cliptd.utils.stopping import Stopped, raising_on_sigterm

USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
"""Errors whose message says what to mend; others are faults of the program and keep their traceback."""

Body = Callable[[list[str]], None]


def command(body: Body) -> Callable[[Sequence[str] | None], None]:
    """Make a command of a function of its arguments.

    The command takes `sys.argv[1:]` if it is called without arguments. It exits with 0 after success, 1 after an error,
    130 after Ctrl-C and 143 after SIGTERM. With `--debug` among the arguments an error keeps its traceback.
    """

    @functools.wraps(body)
    def main(arguments: Sequence[str] | None = None) -> None:
        given = list(sys.argv[1:] if arguments is None else arguments)
        debug = "--debug" in given
        own = [argument for argument in given if argument != "--debug"]
        try:
            with raising_on_sigterm():
                body(own)
        except KeyboardInterrupt:
            _end("stopped; the same command goes on", 130)
        except Stopped as stop:
            _end(f"{stop}; the same command goes on", stop.exit_code)
        except Exception as error:
            if debug or not _is_for_users(error):
                raise
            _end(f"error: {' '.join(str(error).split())} (--debug shows where)", 1)

    return main


def _is_for_users(error: Exception) -> bool:
    return isinstance(error, USER_ERRORS) or type(error).__module__.startswith(("cliptd.", "tasks."))


def _end(line: str, exit_code: int) -> None:
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(exit_code)
