"""Add the teacher's columns to a batch, from a live teacher or a store."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from cliptd.data.images import AnyImage
from cliptd.store.live import as_source
from cliptd.store.source import Source
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.inputs import DistillationInputs
from cliptd.targeted.relevance import DocumentFrequency
from cliptd.targeted.shapes import WHOLE_TEXT_COLUMN
from cliptd.targeted.teacher_view import TeacherViews, checked, embed_texts, logits_of_pairs
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher


class DistillationCollator:
    """A task's collate, with the teacher's columns added to its batches.

    It calls `collate(examples)`, takes "distillation_inputs" out of the batch and adds the columns below. They are for
    B instances, C candidates, K kept words (padded), T student tokens and the teacher's width e.

    - teacher_image_embeds (B, e) and teacher_text_embeds (B, C, e).
    - teacher_word_embeds (B, C, K, e) and teacher_word_mask (B, C, K) bool.
    - teacher_word_ids (B, C, T) int64: for each token the index of its word in the K kept words, or -1.
    - teacher_match (B, C): the teacher's logit that the image and the full text belong together.
    - teacher_region_embeds (B, R, e) and teacher_region_ids (B, P) int64, if the task knows R regions (padded): for
      each of the student's P image tokens the index of its region, or -1.
    - teacher_rival_match (B, R), if the inputs have R rival texts (padded): as teacher_match, -inf for padding.
    - teacher_whole_text_embeds (B, C, e), if sentence targets are of selected words and confidence is over the batch.

    Words are selected here, by the image, the text and the settings alone. With all weights 0 nothing is added.

    Args:
        collate: the task's own, from examples to a dict with "distillation_inputs". None: only `columns` can be called.
        source: a store or another source of teacher embeddings, or a teacher, which is then asked live.
        config: the settings. None: the full method.
        document_frequency: of the task's corpus, needed by semantic="idf".

    Raises:
        ValueError: the inputs do not fit, the teacher gives NaN, or shuffle_teacher meets a batch of one.
    """

    def __init__(
        self,
        collate: Callable[[Sequence[Any]], dict[str, Any]] | None,
        source: Source | Teacher | TeacherEnsemble,
        config: TargetedDistillationConfig | None = None,
        *,
        document_frequency: DocumentFrequency | None = None,
    ) -> None:
        self.collate = collate
        self.source = as_source(source)
        self.config = config or TargetedDistillationConfig()
        self.views = TeacherViews(self.source, self.config, document_frequency)

    def __call__(self, examples: Sequence[Any]) -> dict[str, Any]:
        if self.collate is None:
            raise ValueError(
                "the DistillationCollator was made without a collate, so it cannot make batches of examples; pass the "
                "task's collate, or ask for `columns` of DistillationInputs"
            )
        batch = self.collate(examples)
        if "distillation_inputs" not in batch:
            raise ValueError(
                f"the collate's batch holds {', '.join(map(str, batch))} and no distillation_inputs; make "
                'the task\'s collate put a DistillationInputs under "distillation_inputs"'
            )
        inputs = batch.pop("distillation_inputs")
        batch.update(self.columns(inputs))
        return batch

    def columns(self, inputs: DistillationInputs) -> dict[str, Tensor]:
        """Return the teacher's columns of one batch."""
        if not self.config.distils:
            return {}
        inputs.check_word_ids()
        batch, candidates = len(inputs.image_keys), inputs.candidates
        images = self.source.image_embeds(list(inputs.image_keys), inputs.images)
        images = checked(images, "image", inputs.image_keys)
        pairs = [
            (key, text, tuple(words))
            for key, texts, word_lists in zip(inputs.image_keys, inputs.texts, inputs.words, strict=True)
            for text, words in zip(texts, word_lists, strict=True)
        ]
        regions = self.region_embeds(inputs, images.shape[1])
        views = self.views(pairs, images, regions)
        indices = [view.kept if self.config.word_weight > 0 else () for view in views]
        word_ids = _renumber(inputs.word_ids.flatten(0, 1), indices)
        kept = [
            [self.views.prompt(words[k]) for k in row]
            for row, (_, _, words) in zip(indices, pairs, strict=True)
        ]
        targets, whole = [view.target for view in views], [text for _, text, _ in pairs]
        matches = torch.tensor([view.match for view in views], dtype=torch.float32)
        rivals = self._rival_columns(inputs, images)
        if self.config.shuffle_teacher:
            if batch < 2:
                raise ValueError(
                    "shuffle_teacher exchanges targets between instances, and this batch has one; use batches of at "
                    "least 2 in each process"
                )
            shift = _shift(inputs.image_keys)
            images = images.roll(-shift, 0)
            regions = None if regions is None else regions[shift:] + regions[:shift]
            kept, targets, matches = _exchange(kept, targets, matches, shift * candidates)
            whole = whole[shift * candidates :] + whole[: shift * candidates]
            rivals = {name: column.roll(-shift, 0) for name, column in rivals.items()}
        words, mask = _embed_padded(self.source, kept, images.shape[1])
        return {
            **self._region_columns(inputs, regions),
            **rivals,
            **self._whole_text_columns(whole, candidates, has_rivals=bool(rivals)),
            "teacher_image_embeds": images,
            "teacher_text_embeds": embed_texts(self.source, targets).view(batch, candidates, -1),
            "teacher_word_embeds": words.view(batch, candidates, -1, images.shape[1]),
            "teacher_word_mask": mask.view(batch, candidates, -1),
            "teacher_word_ids": word_ids.view(batch, candidates, -1),
            "teacher_match": matches.view(batch, candidates),
        }

    def region_embeds(self, inputs: DistillationInputs, embed_dim: int) -> list[Tensor] | None:
        """Return B tensors (regions, e), or None if the settings or the task do not use regions."""
        if inputs.region_keys is None or not (self.config.region_weight > 0 or self.views.over_regions):
            return None
        images = inputs.regions or [[None] * len(keys) for keys in inputs.region_keys]
        image_of: dict[str, AnyImage | None] = {}
        for keys, row in zip(inputs.region_keys, images, strict=True):
            image_of.update(zip(keys, row, strict=True))
        if not image_of:
            return [torch.zeros(0, embed_dim)] * len(inputs.region_keys)
        embeds = self.source.region_embeds(list(image_of), list(image_of.values()))
        embeds = checked(embeds, "region", list(image_of))
        row_of = {key: n for n, key in enumerate(image_of)}
        return [embeds[[row_of[key] for key in keys]] for keys in inputs.region_keys]

    def _region_columns(self, inputs: DistillationInputs, regions: list[Tensor] | None) -> dict[str, Tensor]:
        if regions is None or inputs.region_ids is None or self.config.region_weight == 0:
            return {}
        ids = inputs.region_ids
        if self.config.shuffle_teacher:  # another instance's regions, repeated in turn if it has fewer
            counts = torch.tensor([len(region) for region in regions])[:, None]
            ids = torch.where((ids < 0) | (counts == 0), -1, ids % counts.clamp(min=1))
        return {
            "teacher_region_embeds": pad_sequence(regions, batch_first=True),
            "teacher_region_ids": ids,
        }

    def _whole_text_columns(
        self, texts: Sequence[str], candidates: int, has_rivals: bool
    ) -> dict[str, Tensor]:
        config = self.config
        over_batch = config.confidence_over == "batch" or (candidates == 1 and not has_rivals)
        if config.text_target == "full" or config.confidence == "constant" or not over_batch:
            return {}
        return {WHOLE_TEXT_COLUMN: embed_texts(self.source, texts).unflatten(0, (-1, candidates))}

    def _rival_columns(self, inputs: DistillationInputs, images: Tensor) -> dict[str, Tensor]:
        config = self.config
        if inputs.rival_texts is None or config.confidence == "constant" or config.confidence_over == "batch":
            return {}
        counts = [len(texts) for texts in inputs.rival_texts]
        padded = torch.full((len(counts), max(1, *counts)), -torch.inf)
        if any(counts):
            rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
            texts = [text for texts in inputs.rival_texts for text in texts]
            logits = logits_of_pairs(self.source, images[rows], embed_texts(self.source, texts))
            padded[torch.arange(padded.shape[1]) < torch.tensor(counts)[:, None]] = logits.float()
        return {"teacher_rival_match": padded}


def precompute(
    batches: Iterable[DistillationInputs],
    writer: Source,
    config: TargetedDistillationConfig | None = None,
    *,
    progress: Callable[[str, int], None] | None = None,
    document_frequency: DocumentFrequency | None = None,
) -> None:
    """Fill a store with all that a DistillationCollator with these settings will ask for on these batches.

    It encodes all images first, because words are compared with the mean image. Then it does the collator's work with
    the writer as its source.

    Args:
        batches: the task's DistillationInputs: a list, or any object that starts anew with each iteration. They are
            read twice, so that only one needs to be in memory.
        writer: a StoreWriter.
        config: the settings that training will use. None: the full method.
        progress: called as progress("images" or "texts", instances done so far).
        document_frequency: of the task's corpus, needed by semantic="idf".

    Raises:
        TypeError: batches is a generator, which can be read only once.
    """
    if config is not None:
        # The same is asked for, and a last batch of one instance has no other to exchange with.
        config = replace(config, shuffle_teacher=False)
    if iter(batches) is batches:
        raise TypeError(
            f"batches is a {type(batches).__name__}, which ends after one pass, and precompute makes two; pass a "
            "list or an object with __iter__"
        )
    collator = DistillationCollator(None, writer, config, document_frequency=document_frequency)
    if not collator.config.distils:
        return
    done = 0
    for inputs in batches:
        checked(writer.image_embeds(list(inputs.image_keys), inputs.images), "image", inputs.image_keys)
        collator.region_embeds(inputs, writer.embed_dim)
        done += len(inputs.image_keys)
        if progress is not None:
            progress("images", done)
    done = 0
    for inputs in batches:
        collator.columns(replace(inputs, images=[None] * len(inputs.image_keys), regions=None))
        done += len(inputs.image_keys)
        if progress is not None:
            progress("texts", done)


def _renumber(word_ids: Tensor, kept: Sequence[Sequence[int]]) -> Tensor:
    """Turn (N, T) indices into all words into indices into the kept words, -1 for the others."""
    ids = word_ids.to(torch.int64)
    words = int(ids.max()) + 1 if ids.numel() else 0
    words = max(words, 1 + max((k for row in kept for k in row), default=-1))
    table = torch.full((len(kept), words + 1), -1, dtype=torch.int64)  # the last column stands for -1
    places = [(n, k, new) for n, row in enumerate(kept) for new, k in enumerate(row)]
    if places:
        rows, old, new = torch.tensor(places).T
        table[rows, old] = new
    return table.gather(1, torch.where(ids < 0, words, ids))


def _embed_padded(source: Source, prompts: Sequence[Sequence[str]], embed_dim: int) -> tuple[Tensor, Tensor]:
    """Return (N, K, e) embeddings of N lists of texts, padded with 0, and their (N, K) mask. K is at least 1."""
    row = {text: i for i, text in enumerate(dict.fromkeys(text for texts in prompts for text in texts))}
    width = max(1, max(len(texts) for texts in prompts))
    if not row:
        return torch.zeros(len(prompts), width, embed_dim), torch.zeros(len(prompts), width, dtype=torch.bool)
    padded = [[row[text] for text in texts] + [len(row)] * (width - len(texts)) for texts in prompts]
    places = torch.tensor(padded)
    embeds = torch.cat([embed_texts(source, list(row)), torch.zeros(1, embed_dim)])
    return embeds[places], places < len(row)


def _shift(keys: Sequence[str]) -> int:
    """Return how far off the other instance is: the least distance that gives the fewest their own image."""
    return min(
        range(1, len(keys)), key=lambda d: sum(key == keys[b - len(keys) + d] for b, key in enumerate(keys))
    )


def _exchange(
    kept: list[list[str]], targets: list[str], matches: Tensor, rows: int
) -> tuple[list[list[str]], list[str], Tensor]:
    """Give each text the targets of the text `rows` further on, in a circle. It keeps its number of words."""
    others = kept[rows:] + kept[:rows]
    words = [
        [other[j % len(other)] for j in range(len(own))] if other else []
        for own, other in zip(kept, others, strict=True)
    ]
    return words, targets[rows:] + targets[:rows], matches.roll(-rows)
