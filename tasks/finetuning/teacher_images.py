"""The teacher's image embeddings as a column of every batch, for students that read them."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cliptd.adapter.teacher_input import COLUMN
from cliptd.store.source import encode_images
from cliptd.teachers import Teacher
from tasks.batches.collators import PatchCollator, RegionCollator

CACHED_IMAGES = 200_000


class WithTeacherImages:
    """A task's collator whose batches hold the teacher's embedding of each image, looked at once.

    Other attributes are the collator's.
    """

    def __init__(self, collate: PatchCollator | RegionCollator, teacher: Teacher) -> None:
        self.collate, self.teacher = collate, teacher
        self._embeds: OrderedDict[str, Tensor] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or "collate" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.collate, name)

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]:
        first = {example.image_key: example for example in reversed(examples)}
        missing = [key for key in first if key not in self._embeds]
        if missing:
            embeds = encode_images(self.teacher, missing, [first[key].image for key in missing])
            self._embeds.update(zip(missing, embeds, strict=True))
        column = torch.stack([self._embeds[example.image_key] for example in examples])
        for key in first:
            self._embeds.move_to_end(key)
        while len(self._embeds) > CACHED_IMAGES:
            self._embeds.popitem(last=False)
        return {**self.collate(examples), COLUMN: column}
