"""Check what a run needs before its first step, so that a misspelt name does not cost the training before it."""

from typing import Any

from cliptd.adapter.distilled_model import wrap
from cliptd.store.reader import TeacherStore
from cliptd.teachers import Teacher, TeacherEnsemble, load_teacher
from cliptd.training.acceleration import refuse_coupled_accumulation
from tasks.finetuning.adaptation import require_adaptable
from tasks.settings import FinetuneSettings
from tasks.task import Task


def check_first(settings: FinetuneSettings, task: Task, processes: int = 1) -> None:
    """Load the teacher and the student once, fit each method to them, and open one image of every data set.

    Args:
        processes: number of processes that train together.

    Raises:
        ValueError, OSError: naming the setting or the file, what was found and what to do.
    """
    settings.training.accumulation(processes)
    teacher = _load_teacher(settings)
    student = task.load_student()
    for method in settings.methods:
        config = settings.method_config(method)
        if method == "adapted_teacher":
            require_adaptable(teacher)
            settings.adaptation.accumulation(processes)
        model = wrap(student, teacher if config.distils else None, config)
        refuse_coupled_accumulation(model, settings.training, processes)
        model.unwrap()
    for dataset in (task.training_set, task.validation_set, *task.tests.values(), *task.to_answer.values()):
        _open_first_image(dataset)


def _load_teacher(settings: FinetuneSettings) -> Teacher | TeacherEnsemble | None:
    """Return the teacher if a method asks it, after a look at the store that it is to be read from."""
    asks = any(m == "teacher_input" or settings.method_config(m).distils for m in settings.methods)
    if not asks:
        return None
    teacher = load_teacher(settings.teacher, settings.pretrained)
    if settings.store is not None:
        TeacherStore.open(settings.store, teacher)
    return teacher


def _open_first_image(dataset: Any) -> None:
    if len(dataset):
        dataset[0].image()
