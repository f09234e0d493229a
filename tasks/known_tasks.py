"""The tasks by name, and their command lines: settings on the user's own data or on the embedded benchmark."""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from tasks.changed_defaults import changed_defaults
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
from tasks.snli_ve.settings import training_sets as snli_ve_sets
from tasks.vcr.split import training_sets as vcr_sets
from tasks.vqa.settings import training_sets as vqa_sets

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
        training_sets: returns the labelled and the validation set, and a description, of a split and a seed.
        item_ids: returns the ids of the items of such a set.
        about_teacher_score: how the teacher itself is scored, or why it is not.
        teacher_score: "module:function" that scores a teacher without training; None if the task defines no such score.
    """

    home: str
    settings: Callable[[], FinetuneSettings]
    root: Callable[..., Path]
    main_metric: str
    training_sets: Callable[[Any, int], tuple[Any, Any, dict[str, Any]]]
    item_ids: Callable[[Any], list[Any]]
    about_teacher_score: str
    teacher_score: str | None = None

    @property
    def task_class(self) -> "type[Task]":
        """Import the task's class, and torch with it."""
        return _imported(self.home)

    def score_teacher(self, *arguments: Any) -> dict[str, float]:
        """Call the task's teacher score with a teacher, a test set, the texts of its collator and a number of items."""
        assert self.teacher_score is not None
        return _imported(self.teacher_score)(*arguments)


def _imported(home: str) -> Any:
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def _annot_ids(dataset: Any) -> list[str]:
    return dataset.column("annot_id")


def _question_ids(dataset: Any) -> list[int]:
    return dataset.column("question_id")


def _pair_ids(dataset: Any) -> list[str]:
    return dataset.unique_ids()


TASKS: dict[TaskName, KnownTask] = {
    "vcr": KnownTask(
        home="tasks.vcr.task:VcrTask",
        settings=vcr_settings,
        root=vcr_root,
        main_metric="q_to_ar",
        training_sets=vcr_sets,
        item_ids=_annot_ids,
        teacher_score="tasks.vcr.teacher_score:score_teacher",
        about_teacher_score="The teacher itself, without any training: of the four answers, and of the four "
        "rationales, it takes the one that most probably belongs to the whole image. It reads the sentences that it "
        "distils.",
    ),
    "vqa": KnownTask(
        home="tasks.vqa.task:VqaTask",
        settings=vqa_settings,
        root=vqa_root,
        main_metric="overall",
        training_sets=vqa_sets,
        item_ids=_question_ids,
        about_teacher_score="The teacher itself has no score here: it can only choose among given sentences, and the "
        "answer to a question is not one of a few.",
    ),
    "snli_ve": KnownTask(
        home="tasks.snli_ve.task:SnliVeTask",
        settings=snli_ve_settings,
        root=snli_ve_root,
        main_metric="accuracy",
        training_sets=snli_ve_sets,
        item_ids=_pair_ids,
        about_teacher_score="The teacher itself has no score here: it says how well a sentence fits an image, which "
        "does not tell a contradiction from a sentence that is left open.",
    ),
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
    """Parse a task's settings. Without --data-root among them they are the embedded benchmark's.

    With it, the main process prints which defaults differ from the benchmark's.
    """
    embedded = known.settings()
    if not _names_data_root(arguments):
        return _on_iconworld(_with_fraction(embedded, arguments), known, description, arguments)
    settings = parse_options(type(embedded), arguments, description=description)
    kind: Any = type(embedded)  # a task's own settings, which have defaults for everything
    changed = changed_defaults(kind(), embedded, arguments)
    if changed and os.environ.get("RANK", "0") == "0":
        print(changed, file=sys.stderr)
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
