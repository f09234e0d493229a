"""The teacher's knowledge of a training set: asked live, or kept in a store that holds all it is asked."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator
from PIL.Image import Image
from tqdm import tqdm

from cliptd.store.live import LiveSource
from cliptd.store.reader import TeacherStore
from cliptd.store.source import Source
from cliptd.store.writer import StoreWriter
from cliptd.targeted.collator import precompute
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.inputs import DistillationInputs
from cliptd.targeted.relevance import DocumentFrequency
from cliptd.teachers import Teacher, TeacherEnsemble
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.batches.example import Example
from tasks.settings import FinetuneSettings

CALIBRATION_IMAGES = 512
"""From which a live teacher's mean image is taken."""
BATCH = 64


def teacher_source(
    settings: FinetuneSettings,
    teacher: Teacher,
    config: TargetedDistillationConfig,
    questions: "TeacherQuestions",
    accelerator: Accelerator,
    path: Path,
) -> tuple[Source, DocumentFrequency | None]:
    """The teacher live, or a store that holds all that training asks for; and the corpus for "idf".

    path: where a store is made unless it is there.
    """
    frequency = document_frequency(config, questions)
    if settings.source == "live":
        return LiveSource(teacher, calibration=questions.calibration_images()), frequency
    if accelerator.is_main_process and path != settings.store:
        build_store(path, teacher, config, questions)
    accelerator.wait_for_everyone()
    return TeacherStore.open(path, teacher), frequency


def build_store(
    path: Path,
    teacher: Teacher | TeacherEnsemble,
    config: TargetedDistillationConfig,
    questions: "TeacherQuestions",
) -> None:
    """Write what the teacher knows of training items; what the store already holds is not asked again."""
    print(f"Asking the teacher what {path} lacks of {len(questions)} examples.", file=sys.stderr, flush=True)
    frequency = document_frequency(config, questions)
    with (
        StoreWriter(path, teacher) as writer,
        tqdm(total=2 * len(questions), desc="teacher", unit="text", disable=None) as bar,
    ):

        def progress(stage: str, done: int) -> None:
            bar.update(done + (len(questions) if stage == "texts" else 0) - bar.n)

        precompute(questions, writer, config, progress=progress, document_frequency=frequency)


def document_frequency(
    config: TargetedDistillationConfig, questions: "TeacherQuestions"
) -> DocumentFrequency | None:
    """Counted over the training items' texts if the configuration asks for "idf"."""
    if config.semantic != "idf":
        return None
    return DocumentFrequency.fit(words for inputs in questions for texts in inputs.words for words in texts)


class TeacherQuestions:
    """What the teacher is asked about training items, in batches; no picture is opened for it.

    parts: sets of examples, each with its collator: the labelled items, and unlabelled ones if there are any. Each
    iteration starts anew: no more than a batch is in memory.
    """

    def __init__(self, *parts: tuple[Sequence[Example], PatchCollator | RegionCollator]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(examples) for examples, _ in self.parts)

    def __iter__(self) -> Iterator[DistillationInputs]:
        for examples, collate in self.parts:
            for start in range(0, len(examples), BATCH):
                rows = range(start, min(start + BATCH, len(examples)))
                yield collate.distillation_inputs([examples[k] for k in rows])

    def calibration_images(self) -> list[Callable[[], Image]]:
        """The first different images, as functions that open them."""
        images: dict[str, Callable[[], Image]] = {}
        for inputs in self:
            images.update(zip(inputs.image_keys, inputs.images, strict=True))
            if len(images) >= CALIBRATION_IMAGES:
                break
        return list(images.values())[:CALIBRATION_IMAGES]
