"""The teacher's view of an image and a text: the words to distil, and whether the two match."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import get_worker_info

from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.relevance import (
    DocumentFrequency,
    combine_relevance,
    leave_one_out,
    semantic_relevance,
    visual_relevance,
)
from cliptd.targeted.selection import select_tokens
from cliptd.targeted.stopwords import is_content_word
from cliptd.teachers.similarity import logits_of_cosines
from cliptd.utils.finite import check_finite

if TYPE_CHECKING:
    from cliptd.store.source import Source

Pair = tuple[str, str, tuple[str, ...]]  # image key, teacher text, words

_DECIMALS = 7  # rounded scores: the last bits of a batched sum must not decide between equal words


@dataclass(frozen=True, slots=True)
class TeacherView:
    """The teacher's view of one image and one text.

    Args:
        kept: indices of the words to distil, ascending.
        target: the text whose embedding is the sentence target.
        match: the teacher's logit that image and full text belong together.
    """

    kept: tuple[int, ...]
    target: str
    match: float


@dataclass(frozen=True, slots=True)
class WordScores:
    """The relevance of each of K words (padded) of N texts.

    Args:
        mask: (N, K) true for words that may be kept.
        visual: (N, K) cosine with the image, relative to other images. None if the settings do not use it.
        semantic: (N, K) how far the sentence moves without the word, or its idf. None if the settings do not use it.
        combined: (N, K) probabilities by which words are kept. None if the settings do not use them.
    """

    mask: Tensor
    visual: Tensor | None = None
    semantic: Tensor | None = None
    combined: Tensor | None = None


class TeacherViews:
    """Views of (image, text) pairs, each worked out once and then remembered.

    A view depends on the pair, the settings and the source alone, never on the batch that holds the pair.

    Args:
        source: a live teacher or a store.
        config: the settings.
        document_frequency: of the task's corpus, needed by semantic="idf".
        room: number of pairs that a data loader's workers remember together. The oldest are forgotten first.

    Raises:
        ValueError: the settings ask for idf and there is no document frequency.
    """

    def __init__(
        self,
        source: "Source",
        config: TargetedDistillationConfig,
        document_frequency: DocumentFrequency | None = None,
        room: int = 200_000,
    ) -> None:
        self.source = source
        self.config = config
        self.document_frequency = document_frequency
        self.room = room
        # By the pair's hash, which is much smaller than the pair.
        self._views: OrderedDict[int, TeacherView] = OrderedDict()
        self._mean: Tensor | None = None
        scored = config.selection != "all" and (config.word_weight > 0 or config.text_target == "selected")
        self.selects = config.word_weight > 0 or config.text_target == "selected"
        self._visual = scored and config.score != "semantic"
        self.over_regions = self._visual and config.visual_over == "regions"
        self._semantic = scored and config.score != "visual"
        if self._semantic and config.semantic == "idf" and document_frequency is None:
            raise ValueError(
                'semantic="idf" needs the document frequencies of the task\'s corpus; pass '
                "document_frequency=DocumentFrequency.fit(words of each text)"
            )

    def __call__(
        self, pairs: Sequence[Pair], image_embeds: Tensor, regions: Sequence[Tensor] | None = None
    ) -> list[TeacherView]:
        """Return the view of each pair.

        Args:
            pairs: B*C image keys, texts and words, the C of an image together.
            image_embeds: (B, embed_dim).
            regions: (regions, embed_dim) of each image, if the task knows regions.
        """
        known = {pair: self._views.get(hash(pair)) for pair in pairs}
        found = {pair: view for pair, view in known.items() if view is not None}
        first = {pair: n for n, pair in reversed(list(enumerate(pairs))) if pair not in found}
        if first:
            new = list(first)
            candidates = len(pairs) // len(image_embeds)
            rows = [n // candidates for n in first.values()]
            looks = [image_embeds[row : row + 1] for row in rows]
            if regions is not None and self.over_regions:
                looks = [
                    regions[row] if len(regions[row]) else look for row, look in zip(rows, looks, strict=True)
                ]
            for pair, view in zip(new, self._look(new, image_embeds[rows], looks), strict=True):
                found[pair] = self._views[hash(pair)] = view
            worker = get_worker_info()
            while len(self._views) > self.room // (worker.num_workers if worker else 1):
                self._views.popitem(last=False)
        return [found[pair] for pair in pairs]

    def prompt(self, word: str) -> str:
        """Return the teacher's text for a word."""
        return self.config.word_prompt.replace("{word}", word)

    def _look(self, pairs: list[Pair], image_embeds: Tensor, looks: Sequence[Tensor]) -> list[TeacherView]:
        text_embeds = embed_texts(self.source, [text for _, text, _ in pairs])
        kept = self._keep(pairs, looks, text_embeds) if self.selects else [()] * len(pairs)
        matches = logits_of_pairs(self.source, image_embeds, text_embeds)
        views = []
        for (_, text, words), indices, match in zip(pairs, kept, matches.tolist(), strict=True):
            target = text
            if self.config.text_target == "selected" and indices:
                target = " ".join(words[k] for k in indices)
            views.append(TeacherView(indices, target, match))
        # Asked for now, so that a store that is being filled holds it.
        targets = list(dict.fromkeys(view.target for view in views))
        if self.config.text_target == "selected":
            embed_texts(self.source, targets)
        return views

    def word_scores(
        self, pairs: list[Pair], image_embeds: Tensor, regions: Sequence[Tensor] | None = None
    ) -> "WordScores":
        """Return the relevance of each word of each pair, to show people what selection does.

        Args:
            pairs: N image keys, texts and words.
            image_embeds: (N, embed_dim) of their images.
            regions: (regions, embed_dim) of each image, if the task knows regions.
        """
        looks = [image_embeds[n : n + 1] for n in range(len(pairs))]
        if regions is not None and self.over_regions:
            looks = [own if len(own) else look for own, look in zip(regions, looks, strict=True)]
        return self._score(pairs, looks, embed_texts(self.source, [text for _, text, _ in pairs]))

    def _keep(self, pairs: list[Pair], looks: Sequence[Tensor], text_embeds: Tensor) -> list[tuple[int, ...]]:
        """Return the kept word indices of each pair."""
        found = self._score(pairs, looks, text_embeds)
        if found.combined is None:
            return _indices(found.mask)
        return _indices(self._select(found.combined, found.mask, pairs))

    def _score(self, pairs: list[Pair], looks: Sequence[Tensor], text_embeds: Tensor) -> "WordScores":
        """Return the relevance of each pair's words. A word's visual relevance is the highest over the looks."""
        config = self.config
        places = [
            (n, k)
            for n, (_, _, words) in enumerate(pairs)
            for k, word in enumerate(words)
            if is_content_word(word, drop_stopwords=config.drop_stopwords)
        ]
        longest = max((len(words) for _, _, words in pairs), default=0)
        mask = torch.zeros(len(pairs), longest, dtype=torch.bool)
        if not places:
            return WordScores(mask)
        rows, columns = torch.tensor(places).T
        mask[rows, columns] = True
        if config.selection == "all":
            return WordScores(mask)
        visual = semantic = None
        if self._visual:
            words = embed_texts(self.source, [self.prompt(pairs[n][2][k]) for n, k in places])
            mean = self._image_mean()
            visible = [
                visual_relevance(words[None, rows == n].double(), look.double(), mean).amax(dim=0)
                for n, look in enumerate(looks)
            ]
            visual = _scatter(torch.cat(visible), mask, rows, columns)
        if self._semantic:
            if config.semantic == "idf":
                assert self.document_frequency is not None  # as __init__ checks
                relevance = torch.tensor([self.document_frequency.idf(pairs[n][2][k]) for n, k in places])
            else:
                shortened = [leave_one_out(words, text) for _, text, words in pairs]
                without = embed_texts(self.source, [shortened[n][k] for n, k in places])
                relevance = semantic_relevance(text_embeds[rows].double(), without[:, None].double())[:, 0]
            semantic = _scatter(relevance, mask, rows, columns)
        combined = combine_relevance(
            visual,
            semantic,
            mask,
            score=config.score,
            visual_temperature=config.visual_temperature,
            semantic_temperature=config.semantic_temperature,
        ).round(decimals=_DECIMALS)
        return WordScores(mask, visual, semantic, combined)

    def _select(self, scores: Tensor, mask: Tensor, pairs: list[Pair]) -> Tensor:
        config = self.config
        select = partial(select_tokens, method=config.selection, mass=config.mass, top_k=config.top_k)
        if config.selection not in ("sample", "random"):
            return select(scores, mask)
        selected = torch.zeros_like(mask)
        for n, (key, text, words) in enumerate(pairs):  # a generator for each pair, over its own words only
            generator = torch.Generator().manual_seed(_stable_hash(config.seed, key, text))
            own = slice(0, len(words))
            selected[n, own] = select(scores[n, own], mask[n, own], generator=generator)
        return selected

    def _image_mean(self) -> Tensor | None:
        if self.config.relative_to == "none":
            return None
        if self._mean is None:
            self._mean = self.source.image_mean().double().cpu()
            if not torch.isfinite(self._mean).all():
                raise ValueError("the source's image_mean holds NaN or infinity; rebuild the store")
        return self._mean


def logits_of_pairs(source: "Source", image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Return (n,) float64 logits of the teacher that the image and the text of each row (n, embed_dim) match."""
    cosines = F.cosine_similarity(image_embeds.double(), text_embeds.double(), dim=-1)
    return logits_of_cosines(source, cosines)


def embed_texts(source: "Source", texts: Sequence[str]) -> Tensor:
    """Return (len(texts), embed_dim) float32 embeddings on the CPU. Each different text is asked for once.

    Raises:
        ValueError: an embedding holds NaN or infinity; the message names its text.
    """
    row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    embeds = checked(source.text_embeds(list(row)), "text", list(row))
    if len(row) == len(texts):
        return embeds
    return embeds[torch.tensor([row[text] for text in texts])]


def checked(embeds: Tensor, kind: str, names: Sequence[str]) -> Tensor:
    """Return embeddings as float32 on the CPU. Raises ValueError naming the rows that hold NaN or infinity."""
    return check_finite(embeds.detach().to("cpu", torch.float32), kind, names, "the teacher")


def _scatter(values: Tensor, mask: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    padded = torch.zeros(mask.shape, dtype=torch.float64)
    padded[rows, columns] = values.double()
    return padded


def _indices(selected: Tensor) -> list[tuple[int, ...]]:
    return [tuple(k for k, keep in enumerate(row) if keep) for row in selected.tolist()]


def _stable_hash(*parts: object) -> int:
    """Return 63 bits that are the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
