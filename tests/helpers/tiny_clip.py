"""Tiny random teachers, built from configs: an open_clip folder, a transformers CLIP and a transformers
SigLIP.

All three read any lower-cased ASCII text: known words are one token, other words are spelled letter by
letter, so two different texts never encode alike and no unknown token occurs.
"""

import json
import string
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

IMAGE_SIZE = 32
CONTEXT_LENGTH = 32
WORDS = [
    "a",
    "an",
    "the",
    "of",
    "in",
    "on",
    "to",
    "is",
    "are",
    "and",
    "photo",
    "picture",
    "person",
    "dog",
    "cat",
    "bird",
    "tree",
    "house",
    "car",
    "man",
    "woman",
    "boy",
    "girl",
    "why",
    "what",
    "who",
    "where",
    "red",
    "blue",
    "green",
    "small",
    "big",
    "left",
    "right",
    "he",
    "she",
    "they",
    "her",
    "his",
    "because",
    "sitting",
    "standing",
    "looking",
    "at",
    "with",
]


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of `WORDS` and single characters; the end token has the highest id, as open_clip
    needs.
    """
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["<pad>", "<unk>", "<start>", *WORDS]
    pieces += [c for c in characters if c not in pieces] + ["##" + c for c in characters] + ["<end>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [(token, vocabulary[token]) for token in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=special
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
        model_max_length=CONTEXT_LENGTH,
    )


def tiny_open_clip_folder(
    path, embed_dim: int = 16, seed: int = 0, init_logit_bias: float | None = None, mean: float = 0.5
) -> Path:
    """Write a random open_clip model (ViT 32 wide, 2 layers; text 32 wide, 2 layers) as a local folder; →
    its path.
    """
    import open_clip

    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    config = {
        "embed_dim": embed_dim,
        "vision_cfg": {"image_size": IMAGE_SIZE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "tiny",
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    }
    if init_logit_bias is not None:
        config["init_logit_bias"] = init_logit_bias
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = open_clip.CLIP(**config)
    torch.random.set_rng_state(generator_state)
    preprocess = {
        "size": IMAGE_SIZE,
        "mean": [mean] * 3,
        "std": [0.25, 0.25, 0.25],
        "resize_mode": "squash",
    }
    (path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, path / "open_clip_model.safetensors"
    )
    tokenizer.save_pretrained(path)
    return path


def tiny_hf_folder(path, kind: str = "clip", embed_dim: int = 16, seed: int = 0) -> Path:
    """Write a random transformers dual encoder (`kind` "clip" or "siglip") with its processors; → its
    path.
    """
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    tokenizer = tiny_tokenizer()
    size = {
        "hidden_size": embed_dim,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = {**size, "image_size": IMAGE_SIZE, "patch_size": 8}
    text = {
        **size,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": CONTEXT_LENGTH,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=embed_dim))
        crop = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
        images = CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=crop)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        torch.nn.init.constant_(model.logit_scale, 2.3)
        torch.nn.init.constant_(model.logit_bias, -4.0)
        images = SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    torch.random.set_rng_state(generator_state)
    model.save_pretrained(path)
    images.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return Path(path)


def tiny_image(seed: int = 0, size: tuple[int, int] = (48, 40), mode: str = "RGB") -> Image.Image:
    """A random picture, (width, height) = `size`, in any PIL mode."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels, "RGB").convert(mode)
