"""The iconworld teacher: a small open_clip model and its training data.

Training is contrastive, in the unified form of UniCL (arXiv 2204.03610): every caption of the batch that is true of an
image counts as its positive, because short captions are true of many images.
"""

from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.utils.seeds import derive_seed
from tasks.iconworld.glyphs import CONCEPTS, FAMILIES
from tasks.iconworld.language import article, false_phrases, noun_phrase, sample_captions, truth
from tasks.iconworld.making.tokenizers import teacher_tokenizer
from tasks.iconworld.scenes import (
    CELLS,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    Scenes,
    concatenate,
    render,
    sample_scenes,
)

CONTEXT_LENGTH = 24
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
CAPTIONS_PER_SCENE = 2
AUGMENTED = AugmentationPolicy(size=IMAGE_SIZE, scale=(0.5, 1.0))
"""Augmentation that the shipped teacher has not seen. A teacher that is trained with --augmented sees it."""


def teacher_config() -> dict:
    """Return the open_clip configuration, as open_clip_config.json holds it."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 6, "width": 192, "head_width": 64, "patch_size": 16},
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": len(teacher_tokenizer()),
                "hf_tokenizer_name": "iconworld",
                "width": 128,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "size": IMAGE_SIZE, "mode": "RGB", "mean": list(MEAN), "std": list(STD),
            "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0,
        },
    }  # fmt: skip


def build_teacher() -> open_clip.CLIP:
    """Return the teacher with random weights."""
    config = teacher_config()["model_cfg"]
    return open_clip.CLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])


def pixels(images: np.ndarray) -> Tensor:
    """Return images (n, 64, 64, 3) uint8 as the teacher's normalised input (n, 3, 64, 64)."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


class ScenePairs:
    """Endless scenes with captions. A batch is a pure function of the seed and its first position.

    `collate` makes a whole batch at once, because drawing scenes one by one would be slower than training on them.

    Args:
        length: number of samples.
        policy: the augmentation that every other image gets; None: no image gets any.
    """

    def __init__(
        self,
        length: int,
        seed: int,
        families: tuple[str, ...] = FAMILIES,
        *,
        policy: AugmentationPolicy | None = None,
    ) -> None:
        self.length, self.seed, self.families, self.policy = length, seed, families, policy
        self.tokenizer = teacher_tokenizer()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: list[int]) -> dict[str, Tensor]:
        """Return pixel_values (n, 3, h, w), input_ids (m, t), truth (m, n): which caption is true of which image."""
        rng = np.random.default_rng([self.seed, positions[0]])
        # Half of the images show one icon, from which names are learned. The others teach what is together.
        single = sample_scenes(rng, len(positions) // 2, self.families, objects=(1, 1), persons=(0, 0))
        several = sample_scenes(rng, len(positions) - len(single), self.families)
        scenes = concatenate(single, several)
        captions = [sample_captions(rng, scenes) for _ in range(CAPTIONS_PER_SCENE)]
        images = render(scenes)
        if self.policy is not None:
            for row in range(0, len(images), 2):
                seed = derive_seed(self.seed, "augmented", positions[row])
                drawn = self.policy.draw(images.shape[1:3], seed)
                images[row] = replay(Image.fromarray(images[row]), drawn, self.policy.size)
        return {
            "pixel_values": pixels(images),
            "input_ids": tokenize(self.tokenizer, [text for c in captions for text in c.texts]),
            "truth": torch.from_numpy(np.concatenate([truth(c, scenes) for c in captions])),
        }


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Return (n, context length) token ids, exactly as open_clip's tokenizer for the saved folder gives them."""
    encoded = tokenizer(
        texts, max_length=CONTEXT_LENGTH, padding="max_length", truncation=True, return_tensors="pt"
    )
    return encoded["input_ids"]


class UnifiedContrastive(nn.Module):
    """UniCL's loss (arXiv 2204.03610) around an open_clip model.

    `forward` takes pixel_values (n, 3, h, w), input_ids (m, t) and truth (m, n) bool, and returns {"loss"}. Each row
    and each column of the similarity matrix is pulled to the uniform distribution over what is true of it.
    """

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixel_values: Tensor, input_ids: Tensor, truth: Tensor) -> dict[str, Tensor]:
        image, text, scale = self.clip(pixel_values, input_ids)
        logits = scale.clamp(max=100) * text @ image.T
        target = truth.float()
        to_image = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
        to_text = F.cross_entropy(logits.T, (target / target.sum(0)).T)
        return {"loss": (to_image + to_text) / 2}


@torch.no_grad()
def zero_shot(clip: Any, family: str, *, seed: int = 1, samples: int = 1000) -> dict[str, float]:
    """Measure what the teacher knows of one icon family, in percent.

    Returns:
        noun_1: the noun of a scene's only icon is the best.
        noun_2: nouns of a scene of two icons that are among the best two.
        visual_words: in a scene of three icons, a noun of the scene beats a noun that is not there.
        caption: the true caption of a scene beats the same caption with its noun or colour changed.
    """
    clip.eval()
    device = next(clip.parameters()).device
    tokenizer = teacher_tokenizer()
    names = tokenize(tokenizer, [f"a photo of {article(c)}" for c in CONCEPTS])
    nouns = clip.encode_text(names.to(device), normalize=True)
    rng = np.random.default_rng(seed)
    result = {}
    for count in (1, 2, 3):
        scenes = sample_scenes(rng, samples, (family,), objects=(count, count), persons=(0, 1))
        image = clip.encode_image(pixels(render(scenes)).to(device), normalize=True)
        score = (image @ nouns.T).cpu()
        there = torch.zeros(samples, len(CONCEPTS), dtype=torch.bool)
        for cell in range(scenes.concept.shape[1]):
            rows = np.flatnonzero(
                (scenes.concept[:, cell] != EMPTY) & (scenes.concept[:, cell] < len(CONCEPTS))
            )
            there[rows, scenes.concept[rows, cell]] = True
        if count < 3:
            top = score.topk(count, dim=1).indices
            result[f"noun_{count}"] = 100 * there.gather(1, top).float().mean().item()
        else:
            other = torch.from_numpy(rng.integers(0, len(CONCEPTS), samples))
            fair = ~there.gather(1, other[:, None])[:, 0]
            first = there.float().argmax(1)
            wins = score.gather(1, first[:, None]) > score.gather(1, other[:, None])
            result["visual_words"] = 100 * wins[fair].float().mean().item()
            result["caption"] = 100 * _caption_accuracy(clip, tokenizer, scenes, image, rng)
    return result


def _caption_accuracy(
    clip: Any, tokenizer: PreTrainedTokenizerFast, scenes: Scenes, image: Tensor, rng: np.random.Generator
) -> float:
    """Return the accuracy of a choice of four as in VCR: the true phrase, another colour, another noun, both others."""
    choices = []
    for i in range(len(scenes)):
        cell = next(c for c in range(CELLS) if 0 <= scenes.concept[i, c] < PERSON_INDEX)
        choices.append([noun_phrase(scenes, i, cell, with_colour=True), *false_phrases(rng, scenes, i, cell)])
    texts = [f"person is holding the {phrase} ." for four in choices for phrase in four]
    text = clip.encode_text(tokenize(tokenizer, texts).to(image.device), normalize=True)
    score = torch.einsum("nd,ncd->nc", image, text.view(len(scenes), 4, -1))
    return (score.argmax(1) == 0).float().mean().item()
