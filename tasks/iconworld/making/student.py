"""The default student: a small VisualBERT over region features, pre-trained on a quarter of iconworld's concepts.

Like a published vision-language model it comes with some knowledge of images and words. At fine-tuning it meets
concepts that its pre-training never showed. Pre-training is VisualBERT's own (arXiv 1908.03557): masked words given the
regions, and whether a caption belongs to the image.
"""

import functools
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, VisualBertConfig, VisualBertForPreTraining

from tasks.batches.region_features import RegionFeatures
from tasks.iconworld.glyphs import CONCEPTS, SEEN_FAMILIES
from tasks.iconworld.language import sample_captions, truth
from tasks.iconworld.making.tokenizers import student_tokenizer
from tasks.iconworld.scenes import (
    CELLS,
    COLOUR_NAMES,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    Scenes,
    allowed_concepts,
    boxes,
    concatenate,
    render,
    sample_scenes,
)
from tasks.vcr.names import PERSON_NAMES

PRETRAINED_CONCEPTS = np.sort(np.random.default_rng(7).permutation(len(CONCEPTS))[: len(CONCEPTS) // 4])
"""Indices of the concepts in the student's pre-training. The others are new to it at fine-tuning."""
MASK_CONTENT, MASK_OTHER = 0.35, 0.05
"""Shares of nouns and colours, and of other words, that must be restored."""


@functools.cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Return the student's tokenizer, whose vocabulary holds the persons' names as whole words."""
    return student_tokenizer(extra_words=PERSON_NAMES)


def build_student(region_dim: int) -> VisualBertForPreTraining:
    """Return the student with random weights."""
    config = VisualBertConfig(
        vocab_size=len(tokenizer()),
        hidden_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=96,
        visual_embedding_dim=region_dim,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer().pad_token_id,
    )
    return VisualBertForPreTraining(config)


def region_inputs(scenes: Scenes, regions: RegionFeatures) -> tuple[Tensor, Tensor]:
    """Return features of the whole image and of each cell's icon, (n, 5, d), and a mask (n, 5)."""
    extents = boxes(scenes)
    drawn = render(scenes)
    kept = [np.flatnonzero(c != EMPTY) for c in scenes.concept]
    whole = [[0, 0, IMAGE_SIZE, IMAGE_SIZE]]
    box_lists = [torch.tensor(whole + extents[i, kept[i]].tolist()) for i in range(len(scenes))]
    images = [functools.partial(Image.fromarray, image) for image in drawn]
    features = regions.lookup([str(i) for i in range(len(scenes))], images, box_lists)
    out = torch.zeros(len(scenes), 1 + CELLS, regions.dim)
    mask = torch.zeros(len(scenes), 1 + CELLS, dtype=torch.int64)
    for i, feature in enumerate(features):
        out[i, : len(feature)], mask[i, : len(feature)] = feature, 1
    return out, mask


class CaptionedScenes:
    """Pre-training batches over a fixed pool of scenes with ever new captions.

    A batch is a pure function of the seed and its first position.
    - Its first half has true captions with words to restore. They are masked, or swapped for another noun or colour,
      which only the image gives away.
    - Its second half has whole captions to match. Half of them are false: of another scene, or of this one with an icon
      changed.
    - Every other batch has pairs of segments, a true caption first.
    """

    def __init__(
        self, length: int, seed: int, regions: RegionFeatures, *, pool: int, concepts: np.ndarray
    ) -> None:
        self.length, self.seed, self.concepts = length, seed, concepts
        rng = np.random.default_rng([seed, 1])
        # Half of the images show one icon, where a word can only mean that icon.
        single = sample_scenes(
            rng, pool // 2, SEEN_FAMILIES, objects=(1, 1), persons=(0, 0), concepts=concepts
        )
        several = sample_scenes(rng, pool - pool // 2, SEEN_FAMILIES, concepts=concepts)
        self.scenes = concatenate(single, several)
        self.features, self.mask = region_inputs(self.scenes, regions)
        self.swaps = _swaps([CONCEPTS[c] for c in concepts]) | _swaps(COLOUR_NAMES)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: list[int]) -> dict[str, Tensor]:
        """Return a batch as `VisualBertForPreTraining` reads it."""
        rng = np.random.default_rng([self.seed, 2, positions[0]])
        rows = rng.integers(len(self.scenes), size=len(positions))
        scenes = self.scenes[rows]
        texts = sample_captions(rng, scenes).texts
        wrong = self._false_captions(rng, scenes)
        matched = np.arange(len(rows)) >= len(rows) // 2
        false = np.array([w is not None for w in wrong]) & (rng.random(len(rows)) < 0.55) & matched
        last = [w if w is not None and f else t for t, w, f in zip(texts, wrong, false, strict=True)]
        first = sample_captions(rng, scenes).texts if rng.random() < 0.5 else None
        batch = self._encode(rng, first, last, filled=~matched)
        match_labels = torch.from_numpy(false).long().masked_fill(torch.from_numpy(~matched), -100)
        return {
            **batch,
            "visual_embeds": self.features[rows],
            "visual_attention_mask": self.mask[rows],
            "visual_token_type_ids": torch.ones_like(self.mask[rows]),
            "image_text_alignment": torch.zeros(*self.mask[rows].shape, 1, dtype=torch.int64),
            "sentence_image_labels": match_labels,
        }

    def _false_captions(self, rng: np.random.Generator, scenes: Scenes) -> list[str | None]:
        """Return a caption that is false of each scene, or None if three attempts found none."""
        found: list[str | None] = [None] * len(scenes)
        for _ in range(3):
            captions = sample_captions(rng, self._changed(rng, scenes))
            false = ~truth(captions, scenes).diagonal()
            found = [
                text if old is None and is_false else old
                for old, text, is_false in zip(found, captions.texts, false, strict=True)
            ]
        return found

    def _changed(self, rng: np.random.Generator, scenes: Scenes) -> Scenes:
        """Return for each scene another one, or the same one with an icon's noun or colour replaced."""
        other = self.scenes[rng.integers(len(self.scenes), size=len(scenes))]
        concept, colour = scenes.concept.copy(), scenes.colour.copy()
        for i in range(len(scenes)):
            if rng.random() < 0.5:
                concept[i], colour[i] = other.concept[i], other.colour[i]
                continue
            cells = np.flatnonzero((concept[i] != EMPTY) & (concept[i] != PERSON_INDEX))
            if rng.random() < 0.5:
                pool = np.setdiff1d(allowed_concepts(scenes.family[i], self.concepts), concept[i])
                concept[i, rng.choice(cells)] = rng.choice(pool)
            else:
                cell = rng.choice(cells)
                colour[i, cell] = rng.choice(np.setdiff1d(np.arange(len(COLOUR_NAMES)), colour[i]))
        return Scenes(scenes.family, concept, colour, scenes.size, scenes.shift, scenes.background)

    def _encode(
        self, rng: np.random.Generator, first: Sequence[str] | None, last: Sequence[str], filled: np.ndarray
    ) -> dict[str, Tensor]:
        """Return the token columns; words must be restored in the rows that are `filled`."""
        named = [[self._named(rng, text) for text in texts] for texts in (first, last) if texts is not None]
        tok = tokenizer()
        encoded = tok(*named, is_split_into_words=True, padding=True, return_tensors="pt")
        ids = encoded["input_ids"]
        labels = torch.full_like(ids, -100)
        for i in np.flatnonzero(filled):
            places: dict[tuple[int, int], list[int]] = {}
            for t, (word, sequence) in enumerate(
                zip(encoded.word_ids(i), encoded.sequence_ids(i), strict=True)
            ):
                if word is not None:
                    places.setdefault((sequence, word), []).append(t)
            for (sequence, word), at in places.items():
                swaps = self.swaps.get(named[sequence][i][word])
                if rng.random() < (MASK_OTHER if swaps is None else MASK_CONTENT):
                    labels[i, at] = ids[i, at]
                    kind = rng.random()
                    if kind < 0.6 or swaps is None:
                        ids[i, at] = tok.mask_token_id
                    elif kind < 0.9 and swaps:
                        ids[i, at] = torch.tensor(swaps[rng.integers(len(swaps))])
        no_label = torch.full((len(ids), 1 + CELLS), -100)
        return {
            "input_ids": ids,
            "attention_mask": encoded["attention_mask"],
            "token_type_ids": encoded["token_type_ids"],
            "labels": torch.cat([labels, no_label], 1),
        }

    @staticmethod
    def _named(rng: np.random.Generator, text: str) -> list[str]:
        """Return the caption's words. Half of the time persons are called by a name, as in VCR's texts."""
        name = PERSON_NAMES[rng.integers(len(PERSON_NAMES))].lower()
        call_by_name = rng.random() < 0.5
        return [name if call_by_name and word == "person" else word for word in text.split()]


def _swaps(nouns: Sequence[str]) -> dict[str, list[list[int]]]:
    """Return for each word the token ids of the other words with as many tokens."""
    pieces = {word: tokenizer()(word, add_special_tokens=False)["input_ids"] for word in nouns}
    return {
        word: [other for name, other in pieces.items() if name != word and len(other) == len(own)]
        for word, own in pieces.items()
    }


@torch.no_grad()
def matching_accuracy(model: nn.Module, data: CaptionedScenes, *, samples: int = 1500) -> dict[str, float]:
    """Return the percentages of captions rightly called true or false and of masked tokens rightly restored."""
    model.eval()
    batch = data.collate(list(range(samples)))
    labels = batch.pop("labels")
    out = model(**batch)
    asked = batch["sentence_image_labels"] != -100
    right = (out.seq_relationship_logits.argmax(1) == batch["sentence_image_labels"])[asked]
    masked = labels != -100
    filled = out.prediction_logits.argmax(-1)[masked] == labels[masked]
    return {"match": 100 * right.float().mean().item(), "masked": 100 * filled.float().mean().item()}
