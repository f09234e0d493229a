"""The iconworld captioner: the teacher's frozen image tower and a small decoder, as a transformers model."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    BertConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTImageProcessor,
)

from cliptd.reinforcement.captioner import Captioner
from tasks.iconworld.glyphs import CONCEPTS, FAMILIES, PERSON
from tasks.iconworld.language import sample_captions
from tasks.iconworld.making.teacher import MEAN, STD, pixels
from tasks.iconworld.making.tokenizers import teacher_tokenizer
from tasks.iconworld.scenes import (
    COLOUR_NAMES,
    EMPTY,
    IMAGE_SIZE,
    concatenate,
    name_of,
    render,
    sample_scenes,
)

MAX_TOKENS = 24


def captioner_tokenizer() -> PreTrainedTokenizerFast:
    """Return the teacher's tokenizer. A caption begins with the token that also ends it."""
    return teacher_tokenizer()


def build_captioner(clip: Any) -> VisionEncoderDecoderModel:
    """Return a captioner with the frozen image tower and the word embeddings of an open_clip model.

    The rest of its decoder is fresh.
    """
    vision, words = clip.visual, clip.token_embedding.weight
    width, blocks = vision.conv1.out_channels, vision.transformer.resblocks
    encoder = CLIPVisionConfig(
        hidden_size=width, intermediate_size=blocks[0].mlp.c_fc.out_features, num_hidden_layers=len(blocks),
        num_attention_heads=blocks[0].attn.num_heads, image_size=IMAGE_SIZE, patch_size=vision.conv1.kernel_size[0],
        hidden_act="gelu",
    )  # fmt: skip
    tokenizer = captioner_tokenizer()
    special = {
        "bos_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    decoder_config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=words.shape[1], num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=MAX_TOKENS + 8, is_decoder=True, add_cross_attention=True,
        **special,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder_config)
    config.decoder_start_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    model = VisionEncoderDecoderModel(config)
    for name, value in {"decoder_start_token_id": tokenizer.eos_token_id, **special}.items():
        setattr(model.generation_config, name, value)
    _copy_tower(vision, model.encoder)
    model.encoder.requires_grad_(False)
    decoder: Any = model.decoder
    own = decoder.get_input_embeddings().weight
    with torch.no_grad():
        own.copy_(words * (own.std() / words.std()))
    return model


@torch.no_grad()
def _copy_tower(vision: Any, encoder: Any) -> None:
    """Copy open_clip's weights to transformers' names, so that both give the same hidden states."""
    own = getattr(encoder, "vision_model", encoder)
    own.embeddings.class_embedding.copy_(vision.class_embedding)
    own.embeddings.patch_embedding.weight.copy_(vision.conv1.weight)
    own.embeddings.position_embedding.weight.copy_(vision.positional_embedding)
    own.pre_layrnorm.load_state_dict(vision.ln_pre.state_dict())
    own.post_layernorm.load_state_dict(vision.ln_post.state_dict())
    for block, layer in zip(vision.transformer.resblocks, own.encoder.layers, strict=True):
        layer.layer_norm1.load_state_dict(block.ln_1.state_dict())
        layer.layer_norm2.load_state_dict(block.ln_2.state_dict())
        layer.mlp.fc1.load_state_dict(block.mlp.c_fc.state_dict())
        layer.mlp.fc2.load_state_dict(block.mlp.c_proj.state_dict())
        layer.self_attn.out_proj.load_state_dict(block.attn.out_proj.state_dict())
        parts = zip(block.attn.in_proj_weight.chunk(3), block.attn.in_proj_bias.chunk(3), strict=True)
        for name, (weight, bias) in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
            getattr(layer.self_attn, name).load_state_dict({"weight": weight, "bias": bias})


class CaptionedScenes:
    """Endless scenes with a caption each. A batch is a pure function of the seed and its first position.

    Its length is a number of samples, and `collate` makes a whole batch at once.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.tokenizer = length, seed, captioner_tokenizer()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, position: int) -> int:
        return position

    def collate(self, positions: list[int]) -> dict[str, Tensor]:
        """Return pixel_values (n, 3, h, w) and labels (n, tokens), which are -100 after the end."""
        rng = np.random.default_rng([self.seed, 6, positions[0]])
        single = sample_scenes(rng, len(positions) // 2, FAMILIES, objects=(1, 1), persons=(0, 0))
        scenes = concatenate(single, sample_scenes(rng, len(positions) - len(single), FAMILIES))
        texts = sample_captions(rng, scenes).texts
        tokens = self.tokenizer(
            texts, max_length=MAX_TOKENS, padding=True, truncation=True, return_tensors="pt"
        )
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, -100)
        return {"pixel_values": pixels(render(scenes)), "labels": labels}


def save_captioner(model: VisionEncoderDecoderModel, folder: Path) -> None:
    """Write a transformers folder with float16 weights, which `cliptd.reinforcement.captioner.Captioner` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.half() for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    captioner_tokenizer().save_pretrained(folder)
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    ViTImageProcessor(size=size, image_mean=list(MEAN), image_std=list(STD), resample=3).save_pretrained(
        folder
    )


def faithfulness(captioner: Captioner, family: str, *, samples: int = 500, seed: int = 1) -> dict[str, float]:
    """Measure how true sampled captions are, in percent.

    Returns:
        nouns, colours: the share of the nouns and colours in captions that are in their images.
        distinct: the share of images whose two captions differ.
    """
    rng = np.random.default_rng([seed, 7])
    single = sample_scenes(rng, samples // 2, (family,), objects=(1, 1), persons=(0, 0))
    scenes = concatenate(single, sample_scenes(rng, samples - len(single), (family,)))
    images = [Image.fromarray(image) for image in render(scenes)]
    captions = captioner.captions(images, [(2 * k, 2 * k + 1) for k in range(samples)])
    counts = {"nouns": [0, 0], "colours": [0, 0]}
    for k, own in enumerate(captions):
        filled = np.flatnonzero(scenes.concept[k] != EMPTY)
        there = {
            "nouns": {name_of(scenes.concept[k, cell]) for cell in filled},
            "colours": {COLOUR_NAMES[scenes.colour[k, cell]] for cell in filled},
        }
        for text in own:
            for kind, names in (("nouns", _NOUNS), ("colours", _COLOURS)):
                named = names.findall(text)
                counts[kind][0] += sum(name in there[kind] for name in named)
                counts[kind][1] += len(named)
    found = {kind: 100 * right / max(named, 1) for kind, (right, named) in counts.items()}
    return {**found, "distinct": 100 * sum(one != other for one, other in captions) / samples}


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b")


_NOUNS, _COLOURS = _any_of([*CONCEPTS, PERSON]), _any_of(COLOUR_NAMES)
