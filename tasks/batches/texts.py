"""Encode the student's and the teacher's texts of examples, once for each example."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cliptd.targeted.words import WordedText, encode_with_words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedExample:
    """The C candidate texts of an example, T tokens each, without the padding that other examples need."""

    columns: dict[str, Tensor]
    """The tokenizer's columns, (C, T) int64."""
    word_ids: Tensor
    """(C, T) index of each token's word in `words[c]`, or -1."""
    object_ids: Tensor
    """(C, T) object that each token names, or -1."""
    words: list[list[str]]
    """C lists of the teacher's words."""
    teacher_texts: list[str]
    """C texts as the teacher reads them."""
    rival_texts: list[str] | None = None
    """Wrong texts if C is 1, see `DistillationInputs`. None: the task knows none."""


class ExampleTexts(ABC):
    """An encoder of examples that remembers its results. Subclasses say how an example is encoded.

    Args:
        tokenizer: of transformers.
        max_length: most student tokens of a text or pair. Longer texts lose their end, of a pair the longer one first.
        cache_size: number of examples to remember. The least recently used are forgotten first.

    Raises:
        ValueError: the tokenizer has no padding token.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, max_length: int = 128, cache_size: int = 16_384
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "the tokenizer has no padding token, and the texts of a batch differ in length; set its pad_token"
            )
        self.tokenizer, self.max_length, self.cache_size = tokenizer, max_length, cache_size
        self._cache: OrderedDict[Hashable, EncodedExample] = OrderedDict()

    def __call__(self, examples: Sequence[Any]) -> list[EncodedExample]:
        keys = [self.key(example) for example in examples]
        missing = {
            key: example for key, example in zip(keys, examples, strict=True) if key not in self._cache
        }
        encoded = dict(zip(missing, self.encode(list(missing.values())), strict=True)) if missing else {}
        for key in keys:
            if key in self._cache:
                self._cache.move_to_end(key)
                encoded[key] = self._cache[key]
        self._cache.update({key: encoded[key] for key in missing})
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return [encoded[key] for key in keys]

    @abstractmethod
    def key(self, example: Any) -> Hashable:
        """Return all that the encoding depends on."""

    @abstractmethod
    def encode(self, examples: list[Any]) -> list[EncodedExample]:
        """Encode examples, without remembering the results."""

    def padding_of(self, column: str) -> int:
        """Return the value that pads a column of the tokenizer."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }.get(column, 0)


class SingleTexts(ExampleTexts):
    """An encoder of examples of one text each, such as a question or a hypothesis.

    Args:
        text: gives the text of an example that the student reads. Its words are the teacher's words.
        teacher_text: gives the text that the teacher reads.
        rival_texts: gives the wrong texts that the teacher compares with. None: the task knows none.
        options: as for `ExampleTexts`.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        text: Callable[[Any], str],
        teacher_text: Callable[[Any], str],
        rival_texts: Callable[[Any], list[str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, **options)
        self.text, self.teacher_text, self.rival_texts = text, teacher_text, rival_texts

    def key(self, example: Any) -> Hashable:
        rivals = () if self.rival_texts is None else tuple(self.rival_texts(example))
        return self.text(example), self.teacher_text(example), rivals

    def encode(self, examples: list[Any]) -> list[EncodedExample]:
        worded = [WordedText.from_text(self.text(example)) for example in examples]
        columns = dict(encode_with_words(self.tokenizer, worded, max_length=self.max_length))
        word_ids = columns.pop("word_ids")
        results = []
        for row, (example, text) in enumerate(zip(examples, worded, strict=True)):
            used = columns["attention_mask"][row].bool()  # without the padding that other examples need
            own_ids = word_ids[row : row + 1, used]
            results.append(
                EncodedExample(
                    columns={name: column[row : row + 1, used] for name, column in columns.items()},
                    word_ids=own_ids,
                    object_ids=torch.full_like(own_ids, -1),
                    words=[list(text.words)],
                    teacher_texts=[self.teacher_text(example)],
                    rival_texts=None if self.rival_texts is None else self.rival_texts(example),
                )
            )
        return results


def pad_to_batch(tensors: Sequence[Tensor], value: float) -> Tensor:
    """Put tensors (d_1, …) of one rank into one tensor (B, max d_1, …), padded with `value`."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    batch = tensors[0].new_full((len(tensors), *shape), value)
    for row, tensor in zip(batch, tensors, strict=True):
        row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return batch
