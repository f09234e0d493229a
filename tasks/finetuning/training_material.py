"""What a task's training reads: labelled items, and unlabelled images and texts beside them."""

import copy
import operator
from collections.abc import Callable
from typing import Any

from PIL.Image import Image

from cliptd.data.identity import identity_of_files
from cliptd.store.source import Source
from cliptd.targeted.collator import DistillationCollator
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.relevance import DocumentFrequency
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.batches.texts import SingleTexts
from tasks.batches.unlabelled import CollateWithUnlabelled, UnlabelledPairs, WithUnlabelled
from tasks.finetuning.teacher_source import TeacherQuestions
from tasks.settings import FinetuneSettings
from tasks.task import Task


class TrainingMaterial:
    """What is trained on: the labelled items, and unlabelled images and texts beside them if the settings name any."""

    def __init__(self, settings: FinetuneSettings, task: Task) -> None:
        self.parts = [(task.training_set, task.collate)]
        self.training_set = task.training_set
        self.left_out_of_unlabelled: list[str] = []
        of_files = task.split["training_files"].rpartition(":")[2]
        self.store_name = f"{task.split['training_hash'].rpartition(':')[2]}-{of_files[:8]}"
        if settings.unlabelled is not None:
            unlabelled = UnlabelledPairs(settings.unlabelled, on_bad_sample=settings.data.on_bad_sample)
            self.left_out_of_unlabelled = unlabelled.skipped
            self.parts.append((unlabelled, _unlabelled_collate(task.collate)))
            self.training_set = WithUnlabelled(task.training_set, unlabelled)
            self.store_name += f"-with-{identity_of_files([settings.unlabelled]).rpartition(':')[2][:8]}"
        self.questions = TeacherQuestions(*self.parts)
        asked = (task.validation_set, *task.tests.values(), *task.to_answer.values())
        self.read_by_student = (*(part for part, _ in self.parts), *asked)

    def plain(self, collate: Callable[[list], dict[str, Any]]) -> Callable[[list], dict[str, Any]]:
        """The collate of training without distillation: unlabelled examples are passed over."""
        return collate if len(self.parts) == 1 else CollateWithUnlabelled(collate, None)

    def batches(
        self, source: Source, config: TargetedDistillationConfig, frequency: DocumentFrequency | None
    ) -> Callable[[list], dict[str, Any]]:
        """The collate of training with the teacher's columns."""

        def asking(collate: PatchCollator | RegionCollator) -> DistillationCollator:
            collate = copy.copy(collate)  # the same tokenizer and regions; its batches ask the teacher, too
            collate.distillation = True
            return DistillationCollator(collate, source, config, document_frequency=frequency)

        labelled, *unlabelled = [asking(collate) for _, collate in self.parts]
        return CollateWithUnlabelled(labelled, unlabelled[0]) if unlabelled else labelled


def _unlabelled_collate(collate: PatchCollator | RegionCollator) -> PatchCollator | RegionCollator:
    """The student's collator for images and texts without labels; student and teacher read the same text."""
    own = copy.copy(collate)
    read = operator.attrgetter("text")
    own.texts = SingleTexts(collate.texts.tokenizer, read, read, max_length=collate.texts.max_length)
    if isinstance(own, PatchCollator):
        own.draw = _as_it_is
    return own


def _as_it_is(example: Any) -> Image:
    return example.image()
