"""What a task hands over to distillation: images, texts and words as the teacher knows them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class DistillationInputs:
    """A task's batch for the teacher: B instances with C texts each, under "distillation_inputs".

    Args:
        image_keys: B names, one an image; the same key is always the same image.
        images: B PIL images, tensors, functions that open one, or None where a store is sure to hold the key.
        texts: B lists of C teacher texts.
        words: B lists of C lists of the teacher's names of the words.
        word_ids: (B, C, T) index into the candidate's words of each student token, -1 for none.

    Raises:
        ValueError: if the parts do not fit each other, naming the part and the instance.
    """

    image_keys: list[str]
    images: list[Any | Callable[[], Any] | None]
    texts: list[list[str]]
    words: list[list[list[str]]]
    word_ids: Tensor

    def __post_init__(self) -> None:
        batch = len(self.image_keys)
        for name in ("images", "texts", "words"):
            if len(getattr(self, name)) != batch:
                raise ValueError(
                    f"distillation inputs hold {len(getattr(self, name))} {name} for {batch} image keys; "
                    "expected one of each an instance"
                )
        if batch == 0:
            raise ValueError("distillation inputs hold no instance; expected at least one")
        candidates = len(self.texts[0])
        for b in range(batch):
            if len(self.texts[b]) != candidates or len(self.words[b]) != candidates or candidates == 0:
                raise ValueError(
                    f"instance {b} (image {self.image_keys[b]!r}) holds {len(self.texts[b])} texts and "
                    f"{len(self.words[b])} lists of words; expected {max(candidates, 1)} of each, as many "
                    "candidates in every instance"
                )
        if self.word_ids.dim() != 3 or self.word_ids.shape[:2] != (batch, candidates):
            raise ValueError(
                f"word_ids have shape {tuple(self.word_ids.shape)}; expected ({batch}, {candidates}, tokens)"
            )
        if self.word_ids.is_floating_point():
            raise ValueError(f"word_ids are {self.word_ids.dtype}; expected whole numbers")

    @property
    def candidates(self) -> int:
        """C, the texts of an instance."""
        return len(self.texts[0])

    def check_word_ids(self) -> None:
        """Refuse a token whose word does not exist.

        Raises:
            ValueError: naming the instance, the candidate and the index.
        """
        counts = torch.tensor([[len(words) for words in row] for row in self.words])
        largest = self.word_ids.flatten(2).max(dim=2).values if self.word_ids.shape[2] else counts - 1
        for b, c in (largest >= counts).nonzero().tolist():
            raise ValueError(
                f"word_ids of instance {b}, candidate {c} hold {int(largest[b, c])}, but it has "
                f"{int(counts[b, c])} words: {self.words[b][c]!r}; number them as encode_with_words does"
            )
