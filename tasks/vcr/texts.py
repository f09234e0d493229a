"""Student and teacher texts of VCR choices: names for persons, object words for tags."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

import torch

from cliptd.targeted.words import encode_with_words
from tasks.batches.texts import EncodedExample, ExampleTexts
from tasks.vcr.data import VcrExample
from tasks.vcr.names import join, render

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChoiceTexts(ExampleTexts):
    """Encodes examples as pairs (question, or question + given answer; choice), memoised.

    tokenizer: of transformers.
    teacher_text: what the teacher's sentence is, the "choice" alone or "question_and_choice".
    teacher_persons: what the teacher reads for a person: "class" ("person") or "names".
    name_seed: None for names in `PERSON_NAMES` order; a number draws their order per item.
    options: as for `ExampleTexts`.

    Raises ValueError for an unknown choice or a tokenizer without padding token.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        teacher_text: Literal["choice", "question_and_choice"] = "choice",
        teacher_persons: Literal["class", "names"] = "class",
        name_seed: int | None = None,
        **options: Any,
    ) -> None:
        if teacher_text not in ("choice", "question_and_choice"):
            raise ValueError(f"teacher_text is {teacher_text!r}; choose 'choice' or 'question_and_choice'")
        super().__init__(tokenizer, **options)
        self.teacher_text, self.teacher_persons, self.name_seed = teacher_text, teacher_persons, name_seed

    def key(self, example: VcrExample) -> Hashable:
        return example.item.where, example.task, example.given

    def encode(self, examples: list[VcrExample]) -> list[EncodedExample]:
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
