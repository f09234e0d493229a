"""The relevance of each word to its image and to its sentence (arXiv 2201.05729)."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.targeted.config import Score
from cliptd.utils.files import write_atomically


def visual_relevance(word_embeds: Tensor, image_embeds: Tensor, image_mean: Tensor | None = None) -> Tensor:
    """Return u·(v − v̄): how much closer a word is to this image than to the average image.

    CLIP rates some words high on every image. Subtracting the mean image removes this.

    Args:
        word_embeds: (..., words, embed_dim); normalised here.
        image_embeds: (..., embed_dim); normalised here.
        image_mean: (embed_dim,) mean of normalised image embeddings, used as it is. None: subtract nothing.

    Returns:
        (..., words) in cosine units.

    >>> import torch
    >>> words = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> visual_relevance(words, torch.tensor([0.6, 0.8]), torch.tensor([0.5, 0.0]))
    tensor([0.1000, 0.8000])
    """
    images = F.normalize(image_embeds, dim=-1)
    if image_mean is not None:
        images = images - image_mean.to(images)
    return (F.normalize(word_embeds, dim=-1) * images[..., None, :]).sum(dim=-1)


def semantic_relevance(text_embeds: Tensor, without_embeds: Tensor) -> Tensor:
    """Return 1 − cos(E(text), E(text without the word)): how far the sentence moves without the word.

    Args:
        text_embeds: (..., embed_dim); normalised here.
        without_embeds: (..., words, embed_dim), embeddings of the texts of `leave_one_out`; normalised here.

    Returns:
        (..., words) in cosine units, 0 for a word that changes nothing.
    """
    texts = F.normalize(text_embeds, dim=-1)[..., None, :]
    return 1 - (texts * F.normalize(without_embeds, dim=-1)).sum(dim=-1)


def leave_one_out(words: Sequence[str], teacher_text: str) -> list[str]:
    """Return the text without each of its words in turn, with the blanks closed up.

    Words are found whole, in their order, and without regard to case. If the text holds them all, the search goes
    forward from the first word. Otherwise it goes back from the last word, and a word that the text does not hold
    leaves the text as it is. So the words of a context before the text (a question before an answer) never remove the
    text's own words.

    >>> leave_one_out(["a", "red", "car"], "A red car, parked.")
    ['red car, parked.', 'A car, parked.', 'A red, parked.']
    >>> leave_one_out(["is", "he", "he", "runs"], "He runs")
    ['He runs', 'He runs', 'runs', 'He']
    >>> leave_one_out(["left", "or", "right"], "left or right? right")[2]
    'left or? right'
    """
    lower, lowered = _lower(teacher_text), [_lower(word) for word in words]
    starts, begin = [], 0
    for word in lowered:
        starts.append(_find_word(lower, word, begin))
        if starts[-1] < 0:
            break
        begin = starts[-1] + len(word)
    else:
        return [_without(teacher_text, start, word) for start, word in zip(starts, words, strict=True)]
    without = []
    limit = len(lower)
    for word in reversed(lowered):
        start = _find_last_word(lower, word, limit)
        without.append(_without(teacher_text, start, word))
        limit = limit if start < 0 else start
    return without[::-1]


def _without(text: str, start: int, word: str) -> str:
    return text if start < 0 else _close_up(text[:start], text[start + len(word) :])


def _lower(text: str) -> str:
    """Return the text in lower case, of the same length. The few capitals that would grow stay."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _find_word(text: str, word: str, begin: int) -> int:
    """Return where a word first stands by itself in `text[begin:]`, or -1."""
    start = text.find(word, begin) if word else -1
    while start >= 0 and not _stands_alone(text, word, start):
        start = text.find(word, start + 1)
    return start


def _find_last_word(text: str, word: str, limit: int) -> int:
    """Return where a word last stands by itself in `text[:limit]`, or -1."""
    start = text.rfind(word, 0, limit) if word else -1
    while start >= 0 and not _stands_alone(text, word, start):
        start = text.rfind(word, 0, start + len(word) - 1)
    return start


def _stands_alone(text: str, word: str, start: int) -> bool:
    end = start + len(word)
    opens = start == 0 or not (text[start - 1].isalnum() and word[0].isalnum())
    return opens and (end == len(text) or not (text[end].isalnum() and word[-1].isalnum()))


def _close_up(before: str, after: str) -> str:
    before, rest = before.rstrip(), after.lstrip()
    blank = " " if before and rest and (rest != after or not _closes(rest[0])) else ""
    return (before + blank + rest).strip()


def _closes(character: str) -> bool:
    return not character.isalnum() and character not in "([{\"'“‘"


class DocumentFrequency:
    """The number of texts of a corpus that hold each word, for inverse document frequency.

    Args:
        documents: number of texts.
        counts: number of texts that hold a word, by the word in lower case.

    Raises:
        ValueError: a count is not between 1 and the number of documents.

    >>> frequency = DocumentFrequency.fit([["a", "dog"], ["a", "cat"]])
    >>> frequency.idf("A") < frequency.idf("dog") < frequency.idf("unseen")
    True
    """

    def __init__(self, documents: int, counts: dict[str, int]) -> None:
        for word, count in counts.items():
            if not 1 <= count <= documents:
                raise ValueError(
                    f"the document count of {word!r} is {count}; expected 1 to {documents}, the number "
                    "of documents"
                )
        self.documents = documents
        self.counts = dict(counts)

    @classmethod
    def fit(cls, texts: Iterable[Iterable[str]]) -> "DocumentFrequency":
        """Count the words of texts, each given as its words."""
        documents = 0
        counts: Counter[str] = Counter()
        for words in texts:
            documents += 1
            counts.update({word.lower() for word in words})
        return cls(documents, counts)

    def idf(self, word: str) -> float:
        """Return ln((1 + documents) / (1 + count)), in nats: 0 for a word of every text."""
        return math.log((1 + self.documents) / (1 + self.counts.get(word.lower(), 0)))

    def save(self, path: str | Path) -> None:
        """Write the counts as JSON, atomically."""
        content = {"documents": self.documents, "counts": dict(sorted(self.counts.items()))}
        write_atomically(path, json.dumps(content, ensure_ascii=False))

    @classmethod
    def load(cls, path: str | Path) -> "DocumentFrequency":
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            documents, counts = content["documents"], content["counts"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a document frequency file ({type(error).__name__}: {error}); expected JSON "
                'with "documents" and "counts", as DocumentFrequency.save writes'
            ) from error
        return cls(documents, counts)


def combine_relevance(
    visual: Tensor | None,
    semantic: Tensor | None,
    mask: Tensor,
    *,
    score: Score = "product",
    visual_temperature: float = 0.02,
    semantic_temperature: float = 0.05,
) -> Tensor:
    """Return the probability of each word to be the one to distil.

    softmax(visual / τ_v) and softmax(semantic / τ_s) are over the words under the mask. "product" multiplies
    them and normalises again, "mean" averages them, "visual" and "semantic" take one.

    Args:
        visual: (..., words); None if the score does not use it.
        semantic: (..., words); None if the score does not use it.
        mask: (..., words) bool, the words that may be kept.
        score: as above.
        visual_temperature: τ_v.
        semantic_temperature: τ_s.

    Returns:
        (..., words) float64, summing to 1 over the mask; all 0 if the mask is empty.

    Raises:
        ValueError: the score needs a relevance that is None.
    """
    logs = []
    for name, relevance, temperature in (
        ("visual", visual, visual_temperature),
        ("semantic", semantic, semantic_temperature),
    ):
        if score not in (name, "product", "mean"):
            continue
        if relevance is None:
            raise ValueError(f'score "{score}" needs the {name} relevance, which is None; pass {name}=')
        logs.append(relevance.double() / temperature)
    if score == "mean":
        return (_masked_softmax(logs[0], mask) + _masked_softmax(logs[1], mask)) / 2
    return _masked_softmax(torch.stack(logs).sum(dim=0), mask)


def _masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    probabilities = logits.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return torch.where(mask, probabilities, 0.0)
