"""Commands that serve every task: `--task NAME`, options of their own, and after "--" the task's options."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import tyro

from tasks.iconworld.defaults import (
    from_command_line,
    snli_ve_root,
    snli_ve_settings,
    vcr_root,
    vcr_settings,
    vqa_root,
    vqa_settings,
)
from tasks.settings import FinetuneSettings
from tasks.snli_ve.task import SnliVeTask
from tasks.task import Task
from tasks.vcr.task import VcrTask
from tasks.vqa.task import VqaTask

TaskName = Literal["vcr", "vqa", "snli_ve"]


@dataclass(frozen=True)
class KnownTask:
    """A task's class, and its settings and files on the embedded benchmark.

    root: writes the files of a seed and sizes, or the default ones. main_metric: the key of a result row that gains are
        computed of.
    """

    task_class: type[Task]
    settings: Callable[[], FinetuneSettings]
    root: Callable[..., Path]
    main_metric: str


TASKS: dict[TaskName, KnownTask] = {
    "vcr": KnownTask(VcrTask, vcr_settings, vcr_root, "q_to_ar"),
    "vqa": KnownTask(VqaTask, vqa_settings, vqa_root, "overall"),
    "snli_ve": KnownTask(SnliVeTask, snli_ve_settings, snli_ve_root, "accuracy"),
}


class Asked(Protocol):
    """Options of a command."""

    task: TaskName


Options = TypeVar("Options", bound=Asked)


def parse(options: type[Options], description: str | None) -> tuple[Options, KnownTask, Any]:
    """The command's own options, the task, and the task's settings: what follows "--", or the embedded benchmark's."""
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = tyro.cli(options, args=arguments[:end], description=description)
    known = TASKS[own.task]
    about = f"Options of the task {own.task}, as of finetune_{own.task}.py."
    return own, known, from_command_line(known.settings(), known.root, about, arguments[end + 1 :])
