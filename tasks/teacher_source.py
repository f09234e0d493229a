"""The teacher's knowledge of a training set: asked live, or kept in a store that holds all it is asked."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from accelerate import Accelerator
from PIL.Image import Image
from tqdm import tqdm

from cliptd.sources import LiveSource, Source
from cliptd.store import TeacherStore
from cliptd.store_writer import StoreWriter
from cliptd.targeted.collator import precompute
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.inputs import DistillationInputs
from cliptd.targeted.relevance import DocumentFrequency
from cliptd.teachers import Teacher, load_teacher
from tasks.collate import Example, PatchCollator, RegionCollator
from tasks.settings import FinetuneSettings

CALIBRATION_IMAGES = 512
"""From which a live teacher's mean image is taken."""


def teacher_source(
    settings: FinetuneSettings,
    config: TargetedDistillationConfig,
    training_set: Sequence[Example],
    collate: PatchCollator | RegionCollator,
    accelerator: Accelerator,
    training_hash: str,
) -> tuple[Source, DocumentFrequency | None]:
    """The teacher live, or a store that holds all that the training set asks for; and the corpus for "idf"."""
    teacher = load_teacher(settings.teacher, settings.pretrained, device=accelerator.device)
    frequency = document_frequency(config, training_set, collate)
    if settings.source == "live":
        return LiveSource(teacher, calibration=calibration_images(training_set)), frequency
    if settings.store is not None:
        return TeacherStore.open(settings.store, teacher), frequency
    # a store per training set: other pictures would move the mean image, and with it the selection
    path = settings.run_dir / f"store-{training_hash.rpartition(':')[2]}"
    if accelerator.is_main_process:
        build_store(path, teacher, config, training_set, collate)
    accelerator.wait_for_everyone()
    return TeacherStore.open(path, teacher), frequency


def calibration_images(training_set: Sequence[Example]) -> list[Callable[[], Image]]:
    """The first different images of a training set, as functions that open them."""
    images: dict[str, Callable[[], Image]] = {}
    for k in range(len(training_set)):
        if len(images) == CALIBRATION_IMAGES:
            break
        example = training_set[k]
        images.setdefault(example.image_key, example.image)
    return list(images.values())


def build_store(
    path: Path, teacher: Teacher, config: TargetedDistillationConfig, training_set: Sequence[Example], collate
) -> None:
    """Write what the teacher knows of a training set; what the store already holds is not asked again."""
    frequency = document_frequency(config, training_set, collate)
    total = 2 * len(training_set)
    with (
        StoreWriter(path, teacher) as writer,
        tqdm(total=total, desc="teacher", unit="choice", disable=None) as bar,
    ):

        def progress(stage: str, done: int) -> None:
            bar.update(done + (len(training_set) if stage == "texts" else 0) - bar.n)

        precompute(
            TeacherQuestions(training_set, collate),
            writer,
            config,
            progress=progress,
            document_frequency=frequency,
        )


def document_frequency(
    config: TargetedDistillationConfig, training_set: Sequence[Example], collate
) -> DocumentFrequency | None:
    """Counted over the training set's texts if the configuration asks for "idf"."""
    if config.semantic != "idf":
        return None
    batches = TeacherQuestions(training_set, collate)
    return DocumentFrequency.fit(words for inputs in batches for texts in inputs.words for words in texts)


class TeacherQuestions:
    """What the teacher is asked about a training set, in batches; no picture is opened for it.

    Each iteration starts anew: no more than a batch is in memory.
    """

    def __init__(self, training_set: Sequence[Example], collate: PatchCollator | RegionCollator) -> None:
        self.training_set, self.collate = training_set, collate

    def __iter__(self) -> Iterator[DistillationInputs]:
        for start in range(0, len(self.training_set), 64):
            rows = range(start, min(start + 64, len(self.training_set)))
            yield self.collate.distillation_inputs([self.training_set[k] for k in rows])
