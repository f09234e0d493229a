"""The tasks by name, and their command lines: settings on the user's own data or on the embedded benchmark."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from cliptd.utils.run_folder import differences
from tasks.command_line import parse_options
from tasks.iconworld.defaults import (
    on_iconworld,
    snli_ve_root,
    snli_ve_settings,
    vcr_root,
    vcr_settings,
    vqa_root,
    vqa_settings,
)
from tasks.settings import FinetuneSettings

if TYPE_CHECKING:
    from tasks.task import Task

TaskName = Literal["vcr", "vqa", "snli_ve"]


@dataclass(frozen=True)
class KnownTask:
    """A task by its name, and its settings and files on the embedded benchmark.

    Attributes:
        home: "module:class" of the task, imported when it is needed.
        settings: makes the settings of a first run on the embedded benchmark.
        root: writes the benchmark's files of a seed and sizes, or the default ones, and returns their folder.
        main_metric: the key of a result row that gains are computed of.
    """

    home: str
    settings: Callable[[], FinetuneSettings]
    root: Callable[..., Path]
    main_metric: str

    @property
    def task_class(self) -> "type[Task]":
        """Import the task's class, and torch with it."""
        module, _, name = self.home.partition(":")
        return getattr(importlib.import_module(module), name)


TASKS: dict[TaskName, KnownTask] = {
    "vcr": KnownTask("tasks.vcr.task:VcrTask", vcr_settings, vcr_root, "q_to_ar"),
    "vqa": KnownTask("tasks.vqa.task:VqaTask", vqa_settings, vqa_root, "overall"),
    "snli_ve": KnownTask("tasks.snli_ve.task:SnliVeTask", snli_ve_settings, snli_ve_root, "accuracy"),
}


class Asked(Protocol):
    """Options of a command that serves every task."""

    task: TaskName


Options = TypeVar("Options", bound=Asked)
Settings = TypeVar("Settings", bound=FinetuneSettings)


def parse(
    options: type[Options], description: str | None, arguments: Sequence[str]
) -> tuple[Options, KnownTask, Any]:
    """Parse a command that serves every task: its own options, then "--" and the task's.

    Returns:
        The command's options, the task, and the task's settings: without --data-root the embedded benchmark's.
    """
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = parse_options(options, arguments[:end], description=description)
    known = TASKS[own.task]
    about = f"Options of the task {own.task}, the same as those of finetune_{own.task}."
    return own, known, parse_settings(known, about, arguments[end + 1 :])


def parse_settings(known: KnownTask, description: str | None, arguments: Sequence[str]) -> Any:
    """Parse a task's settings; without --data-root among them they are the embedded benchmark's.

    Prints which defaults the user's own data have that the embedded benchmark has not.
    """
    embedded = known.settings()
    if not _names_data_root(arguments):
        return _on_iconworld(_with_fraction(embedded, arguments), known, description, arguments)
    settings = parse_options(type(embedded), arguments, description=description)
    _say_changed_defaults(type(embedded)(), embedded)
    return settings


def _names_data_root(arguments: Sequence[str]) -> bool:
    return any(argument.split("=")[0] in ("--data-root", "--data_root") for argument in arguments)


def _with_fraction(embedded: Settings, arguments: Sequence[str]) -> Settings:
    """Drop the benchmark's own number of items if a share is asked for instead."""
    if any(argument.split("=")[0] == "--fraction" for argument in arguments):
        return dataclasses.replace(embedded, data=dataclasses.replace(embedded.data, items=None))
    return embedded


def _on_iconworld(
    embedded: Settings, known: KnownTask, description: str | None, arguments: Sequence[str]
) -> Settings:
    settings = parse_options(type(embedded), arguments, default=embedded, description=description)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return on_iconworld(settings, known.root())
    from accelerate import PartialState  # the first to start the process group

    from cliptd.training.acceleration import LONG_TIMEOUT

    with PartialState(**LONG_TIMEOUT.to_kwargs()).main_process_first():
        return on_iconworld(settings, known.root())


def _say_changed_defaults(own: FinetuneSettings, embedded: FinetuneSettings) -> None:
    """Say which defaults differ from those of a first run without --data-root: they suit models of full size."""
    theirs, ours = (
        {**dataclasses.asdict(one), **dataclasses.asdict(one.training)} for one in (embedded, own)
    )
    shown = ("methods", "steps", "batch_size", "lr", "warmup_steps", "loss", "teacher_boxes", "eval_every")
    found = differences(*({name: one[name] for name in shown if name in one} for one in (theirs, ours)))
    changed = [line.replace(" there, ", " on the embedded benchmark, ") for line in found]
    if changed:
        print(f"Defaults for your own data: {'; '.join(changed)}.", file=sys.stderr)
