"""Check what a run needs before its first step, so that a misspelt name does not cost the training before it."""

from typing import Any

from cliptd.store.reader import TeacherStore
from cliptd.teachers import load_teacher
from tasks.settings import FinetuneSettings
from tasks.task import Task


def check_first(settings: FinetuneSettings, task: Task) -> None:
    """Load the teacher and the student once, and open one image of every data set.

    Raises:
        ValueError, OSError: naming the setting or the file, what was found and what to do.
    """
    asks_teacher = any(
        method == "teacher_input" or settings.method_config(method).distils for method in settings.methods
    )
    if asks_teacher:
        teacher = load_teacher(settings.teacher, settings.pretrained)
        if settings.store is not None:
            TeacherStore.open(settings.store, teacher)
    task.load_student()
    for dataset in (task.training_set, task.validation_set, *task.tests.values(), *task.to_answer.values()):
        _open_first_image(dataset)


def _open_first_image(dataset: Any) -> None:
    if len(dataset):
        dataset[0].image()
