"""Student and teacher texts of examples, tokenised once an example and kept."""

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
    """The C candidate texts of an example, T tokens each (padding of other examples not included).

    columns: the tokenizer's, (C, T) int64. word_ids: (C, T), index into `words[c]` or -1. object_ids: (C, T),
    the object that a token names or -1. words: C x K teacher words. teacher_texts: C. rival_texts: wrong texts that the
    teacher chooses among where C is 1, see `DistillationInputs`; None: the task knows none.
    """

    columns: dict[str, Tensor]
    word_ids: Tensor
    object_ids: Tensor
    words: list[list[str]]
    teacher_texts: list[str]
    rival_texts: list[str] | None = None


class ExampleTexts(ABC):
    """Encodes examples, memoised; subclasses say how.

    tokenizer: of transformers.
    max_length: student tokens a text or pair may have; longer ones lose their end (of a pair the longest part first).
    cache_size: examples kept, least recently used first out.

    Raises ValueError for a tokenizer without padding token.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", *, max_length: int = 128, cache_size: int = 16_384
    ) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "the tokenizer has no padding token, and texts of a batch differ in length; set one"
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
        """What the encoding depends on."""

    @abstractmethod
    def encode(self, examples: list[Any]) -> list[EncodedExample]:
        """The encodings, not memoised."""

    def padding_of(self, column: str) -> int:
        """The value that pads a tokenizer column."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }.get(column, 0)


class SingleTexts(ExampleTexts):
    """One text an example: a question, a hypothesis.

    text, teacher_text: what the student and the teacher read of an example. The student's words are the teacher's.
    rival_texts: wrong texts for the teacher to choose among; None: the task knows none.
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
            used = columns["attention_mask"][row].bool()  # leaves out the padding that other examples need
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
    """Tensors (d_1, …) of one rank in one tensor (B, max d_1, …), filled up with `value`."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    batch = tensors[0].new_full((len(tensors), *shape), value)
    for row, tensor in zip(batch, tensors, strict=True):
        row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return batch
