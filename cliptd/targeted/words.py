"""The words of a text, which tie two tokenizers together: their places, and the word of each token."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

_WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")


@dataclass(frozen=True)
class WordedText:
    """A text that the student reads, with its words by the teacher's names.

    Args:
        text: the text for the student's tokenizer.
        words: the teacher's name of each word, which may differ from `text` (VCR: "person" for "Casey").
        spans: (start, end) of each word in `text`, in characters, ascending and disjoint.
        teacher_text: the whole text as the teacher reads it.

    Raises:
        ValueError: words and spans differ in number, or a span is empty, outside the text or out of order.

    >>> worded = WordedText.from_text("A dog's well-lit ball.")
    >>> worded.words
    ('A', "dog's", 'well-lit', 'ball')
    >>> worded.spans[1]
    (2, 7)
    """

    text: str
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    teacher_text: str

    def __post_init__(self) -> None:
        if len(self.words) != len(self.spans):
            raise ValueError(
                f"{len(self.words)} words but {len(self.spans)} spans for the text {self.text!r}; "
                "expected one span for each word"
            )
        end_before = 0
        for word, (start, end) in zip(self.words, self.spans, strict=True):
            if not end_before <= start < end <= len(self.text):
                raise ValueError(
                    f"span ({start}, {end}) of the word {word!r} is empty, overlaps the word before it or "
                    f"lies outside the text {self.text!r} of {len(self.text)} characters; expected "
                    "ascending, disjoint spans inside the text"
                )
            end_before = end

    @classmethod
    def from_text(cls, text: str) -> "WordedText":
        """Take as words the runs of letters and digits, with inner apostrophes and hyphens."""
        found = list(_WORD.finditer(text))
        return cls(text, tuple(m.group() for m in found), tuple(m.span() for m in found), text)


def encode_with_words(
    tokenizer: "PreTrainedTokenizerBase",
    first: Sequence[WordedText],
    second: Sequence[WordedText] | None = None,
    *,
    max_length: int | None = None,
    padding: bool | str = True,
) -> "BatchEncoding":
    """Tokenise texts, or pairs of texts, for the student, and tell the word of each token.

    Args:
        tokenizer: of transformers. A fast tokenizer gives offsets; with a slow one, the pieces between words are
            tokenised.
        first: N texts.
        second: N texts that follow them, or None.
        max_length: in tokens, special tokens included. Longer inputs are cut "longest_first", and a word that is cut
            away has no token. None: no cut.
        padding: as in transformers: True (to the longest), "max_length" or False (all have one length).

    Returns:
        (N, T) int64 tensors: input_ids, attention_mask, token_type_ids if the tokenizer has them, and word_ids. A
        token's word id is the index into first.words + second.words of the word that it overlaps most, the lower one
        on a tie. It is -1 for special tokens, padding and punctuation. Read `encoding["word_ids"]`, because
        `encoding.word_ids` is a method of transformers.

    Raises:
        ValueError: `first` is empty, or `second` has another number of texts.
    """
    if len(first) == 0:
        raise ValueError("encode_with_words got no texts; expected at least one WordedText")
    if second is not None and len(second) != len(first):
        raise ValueError(f"second has {len(second)} texts and first {len(first)}; expected as many in both")
    if tokenizer.is_fast:
        return _encode_fast(tokenizer, first, second, max_length, padding)
    return _encode_slow(tokenizer, first, second, max_length, padding)


def _encode_fast(
    tokenizer: "PreTrainedTokenizerBase",
    first: Sequence[WordedText],
    second: Sequence[WordedText] | None,
    max_length: int | None,
    padding: bool | str,
) -> "BatchEncoding":
    encoding = tokenizer(
        [worded.text for worded in first],
        None if second is None else [worded.text for worded in second],
        padding=padding,
        truncation=False if max_length is None else "longest_first",
        max_length=max_length,
        return_offsets_mapping=True,
        return_tensors="np",
    )
    offsets = encoding.pop("offset_mapping")
    if second is None:
        spans = _padded_spans(first)
        word_ids = _largest_overlap(offsets, spans)
    else:
        sequence = np.array(
            [[-1 if s is None else s for s in encoding.sequence_ids(n)] for n in range(len(first))]
        )
        in_first = _largest_overlap(offsets, _padded_spans(first))
        in_second = _largest_overlap(offsets, _padded_spans(second))
        shift = np.array([[len(worded.words)] for worded in first])
        in_second = np.where(in_second >= 0, in_second + shift, -1)
        word_ids = np.where(sequence == 0, in_first, np.where(sequence == 1, in_second, -1))
    encoding["word_ids"] = word_ids
    return encoding.__class__(
        {name: torch.as_tensor(np.asarray(x, np.int64)) for name, x in encoding.items()}
    )


def _padded_spans(texts: Sequence[WordedText]) -> np.ndarray:
    """Return (N, K, 2) spans, padded with empty ones (0, 0). K is at least 1."""
    spans = np.zeros((len(texts), max(1, max(len(worded.spans) for worded in texts)), 2), np.int64)
    for row, worded in zip(spans, texts, strict=True):
        row[: len(worded.spans)] = np.array(worded.spans, np.int64).reshape(-1, 2)
    return spans


def _largest_overlap(offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return (N, T) indices of words, or -1, for (N, T, 2) spans of tokens and (N, K, 2) spans of words."""
    start = np.maximum(offsets[:, :, None, 0], spans[:, None, :, 0])
    overlap = np.minimum(offsets[:, :, None, 1], spans[:, None, :, 1]) - start
    return np.where(overlap.max(axis=2) > 0, overlap.argmax(axis=2), -1)


def _encode_slow(
    tokenizer: "PreTrainedTokenizerBase",
    first: Sequence[WordedText],
    second: Sequence[WordedText] | None,
    max_length: int | None,
    padding: bool | str,
) -> "BatchEncoding":
    rows, word_rows = [], []
    for n, worded in enumerate(first):
        tokens, owners = _tokens_and_words(tokenizer, worded)
        count = len(tokens)
        if second is not None:
            more, more_owners = _tokens_and_words(tokenizer, second[n])
            tokens = tokens + more
            owners = owners + [k if k < 0 else k + len(worded.words) for k in more_owners]
        ids: Any = tokenizer.convert_tokens_to_ids(tokens)  # a list, as tokens are
        # Negative stand-ins go through the tokenizer's truncation and template, and are then replaced.
        stand_ins = [-1 - i for i in range(len(tokens))]
        row = tokenizer.prepare_for_model(
            stand_ins[:count],
            None if second is None else stand_ins[count:],
            truncation=False if max_length is None else "longest_first",
            max_length=max_length,
        )
        word_rows.append([owners[-1 - i] if i < 0 else -1 for i in row["input_ids"]])
        row["input_ids"] = [ids[-1 - i] if i < 0 else i for i in row["input_ids"]]
        rows.append(row)
    encoding = tokenizer.pad(
        {name: [row[name] for row in rows] for name in rows[0]},
        padding=padding,
        max_length=max_length,
        return_tensors="pt",
    )
    word_ids = torch.full_like(encoding["input_ids"], -1)
    for n, row in enumerate(word_rows):
        if tokenizer.padding_side == "left":
            word_ids[n, word_ids.shape[1] - len(row) :] = torch.tensor(row)
        else:
            word_ids[n, : len(row)] = torch.tensor(row)
    encoding["word_ids"] = word_ids
    return encoding


def _tokens_and_words(
    tokenizer: "PreTrainedTokenizerBase", worded: WordedText
) -> tuple[list[str], list[int]]:
    """Return the tokens of one text and the word of each, for a tokenizer without offsets.

    The pieces between and inside the spans are tokenised alone, a word with the blanks before it. If their tokens
    together are not those of the whole text, the tokens of the text up to each boundary decide.
    """
    whole = tokenizer.tokenize(worded.text)
    tokens: list[str] = []
    owners: list[int] = []
    end_before = 0
    for k, (start, end) in enumerate([*worded.spans, (len(worded.text), len(worded.text))]):
        gap = worded.text[end_before:start]
        filler = tokenizer.tokenize(gap.rstrip()) if gap.strip() else []
        word = tokenizer.tokenize(gap[len(gap.rstrip()) :] + worded.text[start:end]) if start < end else []
        tokens += filler + word
        owners += [-1] * len(filler) + [k] * len(word)
        end_before = end
    if tokens == whole:
        return whole, owners
    owners = [-1] * len(whole)
    for k, (start, end) in enumerate(worded.spans):
        before = tokenizer.tokenize(worded.text[:start].rstrip())
        up_to = tokenizer.tokenize(worded.text[:end])
        begin, stop = _shared_beginning(before, whole), _shared_beginning(up_to, whole)
        stop += stop < len(up_to)  # a token that extends beyond the word still overlaps it
        for t in range(begin, min(stop, len(whole))):
            owners[t] = k if owners[t] < 0 else owners[t]
    return whole, owners


def _shared_beginning(tokens: list[str], whole: list[str]) -> int:
    """Count the leading tokens that two lists share."""
    shared = 0
    for one, other in zip(tokens, whole, strict=False):
        if one != other:
            break
        shared += 1
    return shared
