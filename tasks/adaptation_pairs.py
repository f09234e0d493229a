"""A task's own images with the texts that are true of them, for adapting a teacher to them."""

from collections.abc import Sequence
from typing import Any

from cliptd.adaptation import Pair
from tasks.task import Task


class AdaptationPairs:
    """Map-style dataset of `Pair`, an example of the task each.

    The text is the sentence that the teacher embeds: VCR's right choice, VQA's question and answer, an entailed
    hypothesis of SNLI-VE.

    Raises ValueError for an example without label.
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
