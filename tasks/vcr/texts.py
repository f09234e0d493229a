"""Student and teacher texts of VCR choices, tokenised once per choice and kept."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from cliptd.targeted.words import encode_with_words
from tasks.vcr.data import VcrExample
from tasks.vcr.names import join, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedExample:
    """The C candidate texts of an example, T tokens each (padding of other examples not included).

    columns: the tokenizer's, (C, T) int64. word_ids: (C, T), index into `words[c]` or -1. object_ids: (C, T),
    the object that a token names or -1. words: C x K teacher words. teacher_texts: C.
    """

    columns: dict[str, Tensor]
    word_ids: Tensor
    object_ids: Tensor
    words: list[list[str]]
    teacher_texts: list[str]


class ChoiceTexts:
    """Encodes examples as pairs (question, or question + given answer; choice), memoised.

    tokenizer: of transformers.
    max_length: student tokens a pair may have; longer pairs lose their end (longest part first).
    teacher_text: what the teacher's sentence is, the "choice" alone or "question_and_choice".
    teacher_persons: what the teacher reads for a person: "class" ("person") or "names".
    name_seed: None for names in `PERSON_NAMES` order; a number draws their order per item.
    cache_size: examples kept, least recently used first out.

    Raises ValueError for an unknown choice or a tokenizer without padding token.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        max_length: int = 128,
        teacher_text: Literal["choice", "question_and_choice"] = "choice",
        teacher_persons: Literal["class", "names"] = "class",
        name_seed: int | None = None,
        cache_size: int = 16_384,
    ) -> None:
        if teacher_text not in ("choice", "question_and_choice"):
            raise ValueError(f"teacher_text is {teacher_text!r}; choose 'choice' or 'question_and_choice'")
        if tokenizer.pad_token_id is None:
            raise ValueError(
                "the tokenizer has no padding token, and choices of a batch differ in length; set one"
            )
        self.tokenizer, self.max_length, self.teacher_text = tokenizer, max_length, teacher_text
        self.teacher_persons, self.name_seed, self.cache_size = teacher_persons, name_seed, cache_size
        self._cache: OrderedDict[tuple, EncodedExample] = OrderedDict()

    def __call__(self, examples: Sequence[VcrExample]) -> list[EncodedExample]:
        keys = [(example.item.where, example.task, example.given) for example in examples]
        missing = {
            key: example for key, example in zip(keys, examples, strict=True) if key not in self._cache
        }
        encoded = dict(zip(missing, self._encode(list(missing.values())), strict=True)) if missing else {}
        for key in keys:
            if key in self._cache:
                self._cache.move_to_end(key)
                encoded[key] = self._cache[key]
        self._cache.update({key: encoded[key] for key in missing})
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)
        return [encoded[key] for key in keys]

    def _encode(self, examples: list[VcrExample]) -> list[EncodedExample]:
        first, second = [], []
        for example in examples:
            names = example.item.names_for(self.name_seed)
            options = {
                "objects": example.item.objects,
                "names": names,
                "teacher_persons": self.teacher_persons,
            }
            context, *given = [render(tokens, **options) for tokens in example.context]
            for more in given:
                context = join(context, more)
            for choice in example.choices:
                first.append(context)
                second.append(render(choice, **options))
        encoding = encode_with_words(
            self.tokenizer, [x.worded for x in first], [x.worded for x in second], max_length=self.max_length
        )
        columns = dict(encoding)
        word_ids = columns.pop("word_ids")
        objects = torch.full_like(word_ids, -1)
        for row, (a, b) in enumerate(zip(first, second, strict=True)):
            table = torch.tensor([*a.word_objects, *b.word_objects, -1])  # word -1 reads the last entry
            objects[row] = table[word_ids[row]]
        results, start = [], 0
        for example in examples:
            rows = slice(start, start + len(example.choices))
            start = rows.stop
            used = columns["attention_mask"][rows].any(0)  # leaves out the padding that other examples need
            pairs = list(zip(first[rows], second[rows], strict=True))
            both = self.teacher_text == "question_and_choice"
            results.append(
                EncodedExample(
                    columns={name: column[rows][:, used] for name, column in columns.items()},
                    word_ids=word_ids[rows][:, used],
                    object_ids=objects[rows][:, used],
                    words=[[*a.worded.words, *b.worded.words] for a, b in pairs],
                    teacher_texts=[(join(a, b) if both else b).worded.teacher_text for a, b in pairs],
                )
            )
        return results

    def padding_of(self, column: str) -> int:
        """The value that pads a tokenizer column."""
        return {
            "input_ids": self.tokenizer.pad_token_id,
            "token_type_ids": self.tokenizer.pad_token_type_id,
        }.get(column, 0)


def pad_to_batch(tensors: Sequence[Tensor], value: float) -> Tensor:
    """Tensors (d_1, …) of one rank in one tensor (B, max d_1, …), filled up with `value`."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    batch = tensors[0].new_full((len(tensors), *shape), value)
    for row, tensor in zip(batch, tensors, strict=True):
        row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return batch
