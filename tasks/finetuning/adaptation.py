"""A teacher adapted to a task's own images and the texts that are true of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from cliptd.data.pairs.pair import Pair
from cliptd.teachers import Teacher, TeacherEnsemble
from cliptd.teachers.adaptation import adapt_teacher
from cliptd.teachers.from_open_clip import OpenClipTeacher, save_open_clip
from cliptd.training import TrainingConfig
from cliptd.training.config import refuse_other_config, resolved
from cliptd.utils.run_folder import remember_settings
from tasks.task import Task


def adapt_to_task(
    teacher: Teacher | TeacherEnsemble,
    task: Task,
    training: TrainingConfig,
    folder: Path,
    accelerator: Accelerator,
) -> Path:
    """Fine-tune an open_clip teacher contrastively on the task's labelled items, and no others.

    The best step is chosen on the validation items. A teacher that was adapted so before stays.

    Args:
        folder: becomes an open_clip folder. Log and checkpoints go to its subfolder run.

    Returns:
        The folder.

    Raises:
        ValueError: the teacher is not an open_clip one, or the folder holds a teacher that was adapted otherwise.
    """
    teacher = require_adaptable(teacher)
    marker = folder / "adapted.json"
    labelled = {name: task.split[name] for name in ("training_hash", "training_files")}
    identity = resolved(training, teacher_fingerprint=teacher.fingerprint, labelled=labelled)
    if training.resume == "auto":
        refuse_other_config(marker, identity)
    if training.resume == "never" or not marker.exists():
        adapted = adapt_teacher(
            teacher,
            AdaptationPairs(task, task.training_set),
            training,
            run_dir=folder / "run",
            validation=AdaptationPairs(task, task.validation_set),
            accelerator=accelerator,
        )
        accelerator.free_memory()  # of the teacher's optimizer
        if accelerator.is_main_process:
            save_open_clip(adapted, folder)
            remember_settings(marker, identity)
    accelerator.wait_for_everyone()
    return folder


def require_adaptable(teacher: Teacher | TeacherEnsemble | None) -> OpenClipTeacher:
    """Return the teacher if it is an open_clip one. Raises ValueError for any other."""
    if not isinstance(teacher, OpenClipTeacher):
        raise ValueError(
            f"teacher {getattr(teacher, 'name', None)} is not an open_clip model, and only these can be adapted; give "
            "--teacher the name or the folder of one"
        )
    return teacher


class AdaptationPairs:
    """A map-style dataset of `Pair`, one an example of the task.

    The text is the sentence that the teacher embeds: VCR's right choice, VQA's question and answer, an entailed
    hypothesis of SNLI-VE.

    Raises:
        ValueError: an example has no label.
    """

    def __init__(self, task: Task, examples: Sequence[Any]) -> None:
        self.task, self.examples = task, task.true_of_their_images(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Pair:
        example = self.examples[index]
        if example.label is None:
            raise ValueError(f"{example.image.where}: no label; adaptation needs the training file")
        texts = self.task.collate.texts([example])[0].teacher_texts
        return Pair(example.image_key, example.image, texts[example.label if len(texts) > 1 else 0])
