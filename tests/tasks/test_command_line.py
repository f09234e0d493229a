"""Commands: one line for an error and for a stop, exit codes, flags as they are typed, light help."""

import dataclasses
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass, field

import pytest
import tyro

from cliptd.utils.stopping import Stopped
from tasks import command_line
from tasks.command_line import command, parse_options, with_flags
from tasks.commands.__main__ import listing, names


@dataclass
class Training:
    steps: int = 3
    batch_size: int = 2

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"TrainingConfig.steps is {self.steps}, expected a number above 0")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 1")


@dataclass
class Asked:
    adaptation: Training = field(default_factory=Training)
    training: tyro.conf.OmitArgPrefixes[Training] = field(default_factory=Training)
    run_dir: str = "runs"

    def __post_init__(self):
        if not self.run_dir:
            raise ValueError("give run_dir a folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps is 0, expected a number above 0"),
        (["--adaptation.steps", "0"], "--adaptation.steps is 0, expected a number above 0"),
        (["--adaptation.batch-size", "0"], "--adaptation.batch-size is 0, expected at least 1"),
        (["--run-dir", ""], "give --run-dir a folder"),
    ],
)
def test_a_refused_setting_is_one_line_that_names_the_flag(arguments, message, capsys):
    @command
    def main(arguments):
        parse_options(Asked, arguments, description="x")

    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 1
    assert capsys.readouterr().err == f"error: {message} (--debug shows where)\n"


def test_paths_and_values_are_no_flags(monkeypatch):
    monkeypatch.setattr(command_line, "_flags", {"run_dir": "--run-dir", "data": "--data"})
    assert with_flags("data is missing in /a/run_dir/x, 'run_dir' or run_dir.json; give run_dir") == (
        "--data is missing in /a/run_dir/x, 'run_dir' or run_dir.json; give --run-dir"
    )


def test_an_unknown_option_is_tyros_to_explain(capsys):
    @command
    def main(arguments):
        parse_options(Asked, arguments, description="x")

    with pytest.raises(SystemExit) as end:
        main(["--step", "3"])
    assert end.value.code == 2
    assert "Perhaps you meant" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a\n  b"), 1, "error: a b (--debug shows where)"),
        (FileNotFoundError("no file"), 1, "error: no file (--debug shows where)"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on"),
        (Stopped(signal.SIGTERM, "at step 3 of 9"), 143, "stopped at step 3 of 9; the same command goes on"),
    ],
)
def test_how_a_command_ends(error, code, line, capsys, monkeypatch):
    @command
    def main(arguments):
        raise error

    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == code
    assert capsys.readouterr().err == line + "\n"
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err == f"process 1: {line}\n"


def test_faults_of_the_program_and_debug_keep_their_traceback():
    @command
    def main(arguments):
        raise (ValueError if arguments == ["mine"] else AttributeError)("here")

    with pytest.raises(AttributeError):
        main([])
    with pytest.raises(ValueError, match="here"):
        main(["--debug", "mine"])


def test_sigterm_ends_a_command_as_a_stop(capsys):
    @command
    def main(arguments):
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_output_that_nobody_reads_is_no_error():
    code = "from tasks.commands.finetune_vcr import main; main(['--help'])"
    started = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    started.stdout.close()  # as `| head` does when it has seen enough
    assert (started.stderr.read(), started.wait()) == ("", 141)


def test_warnings_are_one_line_without_code(capsys):
    @command
    def main(arguments):
        warnings.simplefilter("always")
        warnings.warn("fresh:\n  head", stacklevel=1)

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *rest: print(
            warnings.formatwarning(message, category, "", 0), end="", file=sys.stderr
        )
        main([])
    assert capsys.readouterr().err == "note: fresh: head\n"


def test_every_command_is_listed_with_a_line():
    lines = listing().splitlines()[2:]
    assert [line.split()[0] for line in lines] == names()
    assert {"finetune_vcr", "distill_embeddings", "evaluate_low_shot"} <= {*names()}
    assert all(len(line.split()) > 4 for line in lines)


def test_a_misspelt_command_is_answered_with_the_nearest():
    done = subprocess.run(
        [sys.executable, "-m", "tasks.commands", "finetune-vrc"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no command 'finetune-vrc'; nearest: finetune_v" in done.stderr


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("finetune_vcr", "--fraction"),
        ("finetune_vqa", "--fraction"),
        ("finetune_snli_ve", "--fraction"),
        ("evaluate_low_shot", "--fractions"),
        ("inspect_selection", "--instances"),
        ("make_splits", "--fractions"),
        ("build_store", "--out"),
        ("adapt_teacher", "--steps"),
        ("make_iconworld", "--vcr.val-shifted"),
    ],
)
def test_help_needs_no_torch(name, flag):
    code = (
        f"import sys; sys.argv = ['x', '--help']\nfrom tasks.commands.{name} import main\n"
        "try: main()\nexcept SystemExit as end: assert end.code == 0\n"
        "found = {'torch', 'transformers', 'datasets', 'open_clip', 'accelerate', 'matplotlib'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert flag in done.stdout


@pytest.mark.parametrize(
    ("program", "line"),
    [
        ("scripts/export.py", "accelerate launch scripts/finetune_vqa.py; python scripts/export.py --out a"),
        ("cliptd export", "accelerate launch -m tasks.commands.finetune_vqa; cliptd export --out a"),
        (
            "/site/tasks/commands/export.py",
            "accelerate launch -m tasks.commands.finetune_vqa; cliptd export --out a",
        ),
    ],
)
def test_command_lines_are_those_of_a_checkout_or_of_an_installed_package(program, line, monkeypatch):
    monkeypatch.setattr("sys.argv", [program])
    said = command_line.as_started(
        "accelerate launch scripts/finetune_vqa.py; python scripts/export.py --out a"
    )
    assert said == line


def test_nested_flags_are_told_apart():
    assert dataclasses.is_dataclass(Asked)
    found = command_line.flags_of(Asked)
    assert (found["training.steps"], found["adaptation.steps"]) == ("--steps", "--adaptation.steps")
