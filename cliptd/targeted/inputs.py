"""The images, texts and words that a task hands over to distillation, as the teacher knows them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cliptd.data.images import AnyImage


@dataclass
class DistillationInputs:
    """A task's batch for the teacher: B instances with C texts each, under "distillation_inputs".

    Args:
        image_keys: B names, one for each image. The same key is always the same image.
        images: B images, or functions that open one. None if a store is sure to hold the key.
        texts: B lists of C teacher texts.
        words: B lists of C lists of words, by the teacher's names.
        word_ids: (B, C, T) for each student token the index of its word in the candidate's words, -1 for none.
        region_keys: B lists of names of image regions, as image_keys. None: the task knows no regions.
        regions: B lists of their images, as `images`. None: a store is sure to hold them.
        region_ids: (B, P) for each image token of the student the index of its region in the instance's regions, -1
            for none. None: the student's image tokens are no regions.
        rival_texts: B lists of wrong texts, any number in each. The teacher compares an instance's one text with them
            (VQA: the question with other answers). Only confidence weights read them.

    Raises:
        ValueError: the parts do not fit each other; the message names the part and the instance.
    """

    image_keys: list[str]
    images: Sequence["AnyImage | None"]
    texts: list[list[str]]
    words: list[list[list[str]]]
    word_ids: Tensor
    region_keys: list[list[str]] | None = None
    regions: Sequence[Sequence["AnyImage | None"]] | None = None
    region_ids: Tensor | None = None
    rival_texts: list[list[str]] | None = None

    def __post_init__(self) -> None:
        batch = len(self.image_keys)
        for name in ("images", "texts", "words"):
            if len(getattr(self, name)) != batch:
                raise ValueError(
                    f"distillation inputs hold {len(getattr(self, name))} {name} for {batch} image keys; "
                    "expected one of each for every instance"
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

        if self.rival_texts is not None and (len(self.rival_texts) != batch or candidates > 1):
            raise ValueError(
                f"distillation inputs hold {len(self.rival_texts)} lists of rival texts for {batch} instances of "
                f"{candidates} candidates; expected one for every instance, and instances of one candidate"
            )
        self._check_regions(batch)

    def _check_regions(self, batch: int) -> None:
        if self.region_keys is None:
            if self.regions is not None or self.region_ids is not None:
                raise ValueError("distillation inputs hold regions without region_keys; give both")
            return
        counts = [len(keys) for keys in self.region_keys]
        if len(counts) != batch or (self.regions is not None and counts != list(map(len, self.regions))):
            found = None if self.regions is None else [len(regions) for regions in self.regions]
            raise ValueError(
                f"distillation inputs hold {counts} region keys and {found} regions for {batch} instances; "
                "expected as many of each in every instance"
            )
        if self.region_ids is None:
            return
        if self.region_ids.dim() != 2 or len(self.region_ids) != batch:
            raise ValueError(
                f"region_ids have shape {tuple(self.region_ids.shape)}; expected ({batch}, image tokens)"
            )
        for b, count in enumerate(counts):
            if self.region_ids.shape[1] and int(self.region_ids[b].max()) >= count:
                raise ValueError(
                    f"region_ids of instance {b} (image {self.image_keys[b]!r}) hold "
                    f"{int(self.region_ids[b].max())}, but it has {count} regions"
                )

    @property
    def candidates(self) -> int:
        """Return C, the number of texts of an instance."""
        return len(self.texts[0])

    def check_word_ids(self) -> None:
        """Refuse a token whose word does not exist.

        Raises:
            ValueError: there is one; the message names the instance, the candidate and the index.
        """
        counts = torch.tensor([[len(words) for words in row] for row in self.words])
        largest = self.word_ids.flatten(2).max(dim=2).values if self.word_ids.shape[2] else counts - 1
        for b, c in (largest >= counts).nonzero().tolist():
            raise ValueError(
                f"word_ids of instance {b}, candidate {c} hold {int(largest[b, c])}, but it has "
                f"{int(counts[b, c])} words: {self.words[b][c]!r}; number them as encode_with_words does"
            )
