"""The dual encoder that learns: an open_clip model with its own transform and tokenizer."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cliptd.data.images import as_rgb
from cliptd.embedding.inheritance.student_config import ModelConfig, build_student
from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.embedding.options import Tower
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.from_open_clip import (
    CONFIG,
    HUB,
    WEIGHTS,
    OpenClipTeacher,
    load_by_name,
    load_folder,
    load_from_hub,
    save_open_clip,
)
from cliptd.teachers.teacher import Teacher

OPEN_CLIP_VOCABULARY = 49408
"""The number of tokens of open_clip's own BPE tokenizer."""


@dataclass
class Student:
    """An open_clip model with its image transform and its tokenizer.

    config: {"model_cfg", "preprocess_cfg"}, as in open_clip_config.json. tokenizer: texts → (texts, tokens) ids.
    batch_size: images or texts per forward in `encode_images` and `encode_texts`. fresh: If true, it started without
    learned weights. encoder: the module that embeds while it learns, the model itself or a `MaskedDualEncoder`.
    """

    model: OpenClipModel
    config: dict[str, Any]
    tokenizer: Callable[..., Tensor]
    name: str
    batch_size: int = 256
    fresh: bool = False

    def __post_init__(self) -> None:
        preprocess = PreprocessCfg(**self.config["preprocess_cfg"])
        self.transform: Callable[[Image.Image], Tensor] = image_transform_v2(preprocess, is_train=False)
        self.encoder: OpenClipModel | MaskedDualEncoder = self.model

    @property
    def embed_dim(self) -> int:
        """Return the width of the embeddings."""
        return self.config["model_cfg"]["embed_dim"]

    @property
    def parameters(self) -> int:
        """Return the number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def image_transform(self, image: Image.Image) -> Tensor:
        """Return (3, height, width) pixels of an image of any mode."""
        return self.transform(as_rgb(image))

    def pixels(self, images: Sequence[Image.Image | Tensor], names: Sequence[str] = ()) -> Tensor:
        """Return (images, 3, height, width) pixels; a tensor among the images is such pixels already."""
        return torch.stack(
            [image if isinstance(image, Tensor) else self.image_transform(image) for image in images]
        )

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Return (texts, tokens) ids, as many as the model's context length."""
        return self.tokenizer(list(texts), context_length=self.model.context_length)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """Embed images, or pixels that `pixels` made of them, for evaluation: (images, dim) of unit length."""
        pixels = self.pixels(images)
        device = self.model.logit_scale.device
        parts = [self.encoder.encode_image(part.to(device)) for part in pixels.split(self.batch_size)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts for evaluation: (texts, dim) of unit length."""
        device = self.model.logit_scale.device
        parts = [
            self.encoder.encode_text(part.to(device)) for part in self.tokenize(texts).split(self.batch_size)
        ]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def save(self, folder: Path) -> Path:
        """Write an open_clip folder and return its path."""
        return save_open_clip(self.model, folder, config=self.config, tokenizer=self.tokenizer)


def load_student(
    name: str, pretrained: str | None = None, *, teacher: OpenClipTeacher | None = None, seed: int = 0
) -> Student:
    """Load a student. If it has no weights, draw fresh ones.

    Args:
        name: one of

            - an open_clip name, such as ViT-B-32;
            - "hf-hub:" and the id of an open_clip model;
            - an open_clip folder, with or without weights;
            - a .json file like open_clip_config.json, or like the model_cfg in it.
        pretrained: for an open_clip name, its tag or a checkpoint file. None: fresh weights.
        teacher: the teacher whose tokenizer and preprocessing a .json file gets if it has none.
        seed: decides fresh weights.

    Raises:
        ValueError, FileNotFoundError: an unknown name (the message names the nearest ones), or a config that is missing
            or that open_clip cannot build.
    """
    if name.startswith(HUB):
        return _trainable(load_from_hub(name, device="cpu", precision="fp32", batch_size=256))
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if path.suffix == ".json":
        return _from_config(path, teacher, seed)
    if path.is_dir():
        if (path / WEIGHTS).exists():
            return _trainable(load_folder(path, device="cpu", precision="fp32", batch_size=256))
        if not (path / CONFIG).exists():
            raise FileNotFoundError(f"student folder {path} has no {CONFIG}")
        tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
        return _fresh(_read_config(path / CONFIG), tokenizer, str(path), seed)
    if pretrained is not None or name not in open_clip.list_models():  # load_by_name refuses a wrong name
        return _trainable(load_by_name(name, pretrained, device="cpu", precision="fp32", batch_size=256))
    return _fresh({"model_cfg": open_clip.get_model_config(name)}, open_clip.get_tokenizer(name), name, seed)


def fresh_like(student: Student, model_cfg: ModelConfig, *, seed: int = 0) -> Student:
    """Return a student of another config with fresh weights and with this one's transform and tokenizer."""
    return _fresh({**student.config, "model_cfg": model_cfg}, student.tokenizer, student.name, seed)


def in_the_place_of(
    teacher: Teacher | TeacherEnsemble, student: Student, towers: Sequence[Tower], *, seed: int = 0
) -> Student:
    """Return a student with fresh towers whose embeddings are as wide as the teacher's.

    Args:
        teacher: gives the logit scale, the width and, if one tower is named, the other tower.
        student: its config describes the fresh towers.
        towers: the towers that learn.
        seed: decides the fresh weights.

    Raises:
        ValueError: one tower is named, and the teacher is no single open_clip model, or its other tower does not fit.
    """
    if len(towers) == 2:
        model_cfg = {**student.config["model_cfg"], "embed_dim": teacher.embed_dim}
        made = fresh_like(student, model_cfg, seed=seed)
        take_scale(made.model, teacher.logit_scale, teacher.logit_bias)
        return made
    (tower,) = towers
    if not isinstance(teacher, OpenClipTeacher):
        raise ValueError(
            f"only the {tower} tower learns, so the other is the teacher's, but {teacher.name} is no single open_clip "
            "model; train both towers"
        )
    key = "vision_cfg" if tower == "image" else "text_cfg"
    reads_images, reads_texts = (student, teacher) if tower == "image" else (teacher, student)
    config = {
        "model_cfg": {**teacher.config["model_cfg"], key: student.config["model_cfg"][key]},
        "preprocess_cfg": reads_images.config["preprocess_cfg"],
    }
    made = _fresh(config, reads_texts.tokenizer, f"{tower} of {student.name}", seed)
    kept = {
        name: value
        for name, value in teacher.model.state_dict().items()
        if name.startswith("visual.") != (tower == "image")
    }
    wrong = made.model.load_state_dict(kept, strict=False).unexpected_keys
    if wrong:
        raise ValueError(
            f"the teacher's other tower does not fit beside the {tower} tower of {student.name}, whose model has no "
            f"{', '.join(wrong[:3])}; train both towers"
        )
    take_scale(made.model, teacher.logit_scale, teacher.logit_bias)
    return made


@torch.no_grad()
def take_scale(model: OpenClipModel, scale: float, bias: float | None = None) -> None:
    """Give a student a logit scale and, if it has a logit bias, this bias. Use it if no loss trains them."""
    model.logit_scale.fill_(math.log(scale))
    if model.logit_bias is not None and bias is not None:
        model.logit_bias.fill_(bias)


def _trainable(loaded: OpenClipTeacher) -> Student:
    return Student(loaded.model.requires_grad_(True), loaded.config, loaded.tokenizer, loaded.name)


def _from_config(path: Path, teacher: OpenClipTeacher | None, seed: int) -> Student:
    config = _read_config(path)
    vocabulary = config["model_cfg"].get("text_cfg", {}).get("vocab_size", OPEN_CLIP_VOCABULARY)
    if teacher is not None:
        of_teacher = teacher.config["model_cfg"]["text_cfg"].get("vocab_size", OPEN_CLIP_VOCABULARY)
        if vocabulary == of_teacher:
            config.setdefault("preprocess_cfg", teacher.config["preprocess_cfg"])
            return _fresh(config, teacher.tokenizer, str(path), seed)
    if vocabulary != OPEN_CLIP_VOCABULARY:
        raise ValueError(
            f"{path}: its vocabulary has {vocabulary} tokens, but the teacher's has another number and open_clip's own "
            f"has {OPEN_CLIP_VOCABULARY}; give an open_clip folder with the tokenizer's files"
        )
    return _fresh(config, open_clip.get_tokenizer("ViT-B-32"), str(path), seed)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"student config {path} does not exist; give a .json file with a model_cfg"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"student config {path} is no JSON ({error}); give a file like open_clip_config.json"
        ) from error
    if "model_cfg" not in config and "vision_cfg" in config:
        config = {"model_cfg": config}
    if "model_cfg" not in config:
        raise ValueError(
            f"student config {path} has {', '.join(config) or 'nothing'}; expected model_cfg as in {CONFIG}"
        )
    return config


def _fresh(config: dict[str, Any], tokenizer: Callable[..., Tensor], name: str, seed: int) -> Student:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_student(config["model_cfg"], config.get("preprocess_cfg"))
    preprocess = config.get("preprocess_cfg") or asdict(PreprocessCfg())
    preprocess = {**preprocess, "size": model.visual.image_size}
    config = {"model_cfg": config["model_cfg"], "preprocess_cfg": preprocess}
    return Student(model, config, tokenizer, name, fresh=True)
