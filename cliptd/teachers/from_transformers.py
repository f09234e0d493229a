"""transformers dual encoders (CLIP, SigLIP and models of the same methods) as teachers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    BaseImageProcessor,
    CLIPModel,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    SiglipModel,
)

from cliptd.data.images import as_rgb
from cliptd.teachers.fingerprints import hash_vocabulary
from cliptd.teachers.teacher import Teacher, Tokens
from cliptd.utils.messages import one_line

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class TransformersTeacher(Teacher):
    """A transformers dual encoder (CLIP, SigLIP and models of the same methods) with its processors."""

    model: CLIPModel | SiglipModel
    image_processor: BaseImageProcessor
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self,
        model: CLIPModel | SiglipModel,
        image_processor: BaseImageProcessor,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        batch_size: int = 256,
    ) -> None:
        self.__dict__.update(image_processor=image_processor, tokenizer=tokenizer)
        super().__init__(model, name, batch_size)

    def image_transform(self, image: Image.Image) -> Tensor:
        return self.image_processor(images=as_rgb(image), return_tensors="pt")["pixel_values"][0]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        text_config = self.model.config.text_config
        assert isinstance(text_config, PreTrainedConfig)  # as every loaded model's is
        length = text_config.max_position_embeddings
        options = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        tokens = self.tokenizer(list(texts), **options)
        # A SigLIP is trained on padded texts without a mask.
        siglip = getattr(self.model, "logit_bias", None) is not None
        kept = ["input_ids"] if siglip else ["input_ids", "attention_mask"]
        return {name: tokens[name] for name in kept if name in tokens}

    def image_features(self, pixels: Tensor) -> Tensor:
        out = self.model.get_image_features(pixel_values=pixels)
        return getattr(out, "pooler_output", out)

    def text_features(self, tokens: Tokens) -> Tensor:
        assert isinstance(tokens, dict)  # as tokenize makes them
        out = self.model.get_text_features(**tokens)
        return getattr(out, "pooler_output", out)

    def describe(self) -> dict[str, Any]:
        return {
            "transform": self.image_processor.to_dict(),
            "vocabulary": hash_vocabulary(self.tokenizer.get_vocab()),
        }


def load_transformers(
    name: str, *, device: str | torch.device, precision: str, batch_size: int
) -> TransformersTeacher:
    """Load "hf:" and an id or a local folder. Raises as `load_teacher`; no tensor may be random."""
    source = name.removeprefix("hf:")
    folder = Path(source).expanduser()
    is_folder = folder.is_dir()
    if not is_folder and (source.startswith((".", "~", os.sep)) or source.count("/") > 1):
        raise FileNotFoundError(
            f"teacher folder {folder} does not exist; expected a transformers model's folder"
        )
    where = str(folder) if is_folder else source
    try:
        model, info = AutoModel.from_pretrained(where, dtype=DTYPES[precision], output_loading_info=True)
        image_processor = AutoImageProcessor.from_pretrained(where)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except (OSError, ValueError, SafetensorError) as error:
        if is_folder:
            raise ValueError(
                f"teacher folder {folder} cannot be loaded by transformers: {one_line(error)}"
            ) from error
        raise FileNotFoundError(
            f"the model {source} is not on this machine and could not be downloaded ({one_line(error)}): run "
            f"`hf download {source}` where there is a network and copy the cache here, or give "
            "'hf:<local folder>'"
        ) from error
    needed = ("get_image_features", "get_text_features", "logit_scale")
    lacking = [part for part in needed if not hasattr(model, part)]
    if lacking:
        raise ValueError(
            f"{name} is a {type(model).__name__}, which has no {', '.join(lacking)}; expected an image–text "
            "dual encoder such as CLIPModel or SiglipModel"
        )
    random = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if random:
        raise ValueError(
            f"the weights of {name} lack tensors of {type(model).__name__}, or have them in another shape: "
            f"{', '.join(random[:3])}; {len(random)} in all. They would be random; give a whole checkpoint"
        )
    return TransformersTeacher(model.to(device), image_processor, tokenizer, name, batch_size=batch_size)
