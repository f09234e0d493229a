"""The dual encoder that is trained: an open_clip model with its own transform and tokenizer."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cliptd.data.images import as_rgb
from cliptd.embedding.inheritance.student_config import build_student
from cliptd.embedding.pruning.masks import Tower
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


@dataclass
class Student:
    """An open_clip model, what reads for it, and how it embeds at the moment.

    config: {"model_cfg", "preprocess_cfg"}. fresh: it started without learned weights. encoder: what embeds while it
        learns, the model itself or the model seen through masks.
    """

    model: nn.Module
    config: dict
    tokenizer: Callable
    name: str
    batch_size: int = 256
    fresh: bool = False

    def __post_init__(self) -> None:
        self.transform = image_transform_v2(PreprocessCfg(**self.config["preprocess_cfg"]), is_train=False)
        self.encoder: nn.Module = self.model

    @property
    def embed_dim(self) -> int:
        return self.config["model_cfg"]["embed_dim"]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def image_transform(self, image: Image.Image) -> Tensor:
        """(3, height, width) of a picture of any mode."""
        return self.transform(as_rgb(image))

    def pixels(self, images: Sequence[Image.Image | Tensor], names: Sequence[str] = ()) -> Tensor:
        """(images, 3, height, width); tensors are such pixels already."""
        return torch.stack(
            [image if isinstance(image, Tensor) else self.image_transform(image) for image in images]
        )

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """(texts, tokens)."""
        return self.tokenizer(list(texts), context_length=self.model.context_length)

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image | Tensor]) -> Tensor:
        """(n, dim) of unit length, for evaluation, of pictures or what `pixels` made of them."""
        pixels = self.pixels(images)
        device = self.model.logit_scale.device
        parts = [self.encoder.encode_image(part.to(device)) for part in pixels.split(self.batch_size)]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """(n, dim) of unit length, for evaluation."""
        device = self.model.logit_scale.device
        parts = [
            self.encoder.encode_text(part.to(device)) for part in self.tokenize(texts).split(self.batch_size)
        ]
        return F.normalize(torch.cat(parts).float(), dim=-1)

    def save(self, folder: Path) -> Path:
        """An open_clip folder."""
        return save_open_clip(self.model, folder, config=self.config, tokenizer=self.tokenizer)


def load_student(
    name: str, pretrained: str | None = None, *, teacher: OpenClipTeacher | None = None, seed: int = 0
) -> Student:
    """A student with weights or, where there are none, fresh ones.

    Args:
        name: an open_clip name, or hf-hub: and the id of an open_clip model; an open_clip folder, with or without
            weights; or a .json with a config like its open_clip_config.json or the model_cfg in there.
        pretrained: of an open_clip name, its tag or a checkpoint file; None: fresh weights.
        teacher: whose tokenizer and preprocessing a .json without its own gets.
        seed: of fresh weights.

    Raises:
        ValueError, FileNotFoundError: an unknown name (the nearest are named), a config that open_clip cannot build.
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
    if (
        pretrained is not None or name not in open_clip.list_models()
    ):  # which knows what to say of a wrong name
        return _trainable(load_by_name(name, pretrained, device="cpu", precision="fp32", batch_size=256))
    return _fresh({"model_cfg": open_clip.get_model_config(name)}, open_clip.get_tokenizer(name), name, seed)


def fresh_like(student: Student, model_cfg: dict, *, seed: int = 0) -> Student:
    """A student of another config with fresh weights, which reads as this one does."""
    return _fresh({**student.config, "model_cfg": model_cfg}, student.tokenizer, student.name, seed)


def in_the_place_of(
    teacher: Teacher | TeacherEnsemble, student: Student, towers: Sequence[Tower], *, seed: int = 0
) -> Student:
    """Fresh towers of the student's config that embed as wide as the teacher; one that is not named is the teacher's.

    Raises ValueError if one of two is named and the teacher is no single open_clip model or does not fit beside it.
    """
    if len(towers) == 2:
        model_cfg = {**student.config["model_cfg"], "embed_dim": teacher.embed_dim}
        made = fresh_like(student, model_cfg, seed=seed)
        take_scale(made.model, teacher.logit_scale, teacher.logit_bias)
        return made
    (tower,) = towers
    if not isinstance(teacher, OpenClipTeacher):
        raise ValueError(
            f"of the two towers only {tower} learns, so the other is the teacher's, but {teacher.name} is no single "
            "open_clip model; let both learn"
        )
    of_teacher, reads_as = teacher.config, (student, teacher)
    key = "vision_cfg"
    if tower == "text":
        key, reads_as = "text_cfg", (teacher, student)
    config = {
        "model_cfg": {**of_teacher["model_cfg"], key: student.config["model_cfg"][key]},
        "preprocess_cfg": reads_as[0].config["preprocess_cfg"],
    }
    made = _fresh(config, reads_as[1].tokenizer, f"{tower} of {student.name}", seed)
    kept = {
        name: value
        for name, value in teacher.model.state_dict().items()
        if name.startswith("visual.") != (tower == "image")
    }
    wrong = made.model.load_state_dict(kept, strict=False).unexpected_keys
    if wrong:
        raise ValueError(
            f"the teacher's other tower does not fit beside the {tower} tower of {student.name}, which has no place "
            f"for {', '.join(wrong[:3])}; let both learn"
        )
    take_scale(made.model, teacher.logit_scale, teacher.logit_bias)
    return made


@torch.no_grad()
def take_scale(model: nn.Module, scale: float, bias: float | None = None) -> None:
    """Give a student a logit scale, and a bias if it has one and there is one: where no loss trains its own."""
    model.logit_scale.fill_(math.log(scale))
    if getattr(model, "logit_bias", None) is not None and bias is not None:
        model.logit_bias.fill_(bias)


def _trainable(loaded: OpenClipTeacher) -> Student:
    model = loaded.model.requires_grad_(True)
    return Student(model, loaded.config, loaded.tokenizer, loaded.name)


def _from_config(path: Path, teacher: OpenClipTeacher | None, seed: int) -> Student:
    config = _read_config(path)
    vocabulary = config["model_cfg"].get("text_cfg", {}).get("vocab_size", 49408)
    if teacher is not None:
        of_teacher = teacher.config["model_cfg"]["text_cfg"].get("vocab_size", 49408)
        if vocabulary == of_teacher:
            config.setdefault("preprocess_cfg", teacher.config["preprocess_cfg"])
            return _fresh(config, teacher.tokenizer, str(path), seed)
    if vocabulary != 49408:
        raise ValueError(
            f"{path}: its vocabulary has {vocabulary} tokens, the teacher's another number and open_clip's own 49408; "
            "give an open_clip folder with the tokenizer's files"
        )
    return _fresh(config, open_clip.get_tokenizer("ViT-B-32"), str(path), seed)


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"student config {path} does not exist") from None
    except ValueError as error:
        raise ValueError(f"student config {path} is no JSON: {error}") from error
    if "model_cfg" not in config and "vision_cfg" in config:
        config = {"model_cfg": config}
    if "model_cfg" not in config:
        raise ValueError(f"student config {path} has {', '.join(config) or 'nothing'}; expected model_cfg")
    return config


def _fresh(config: dict, tokenizer: Callable, name: str, seed: int) -> Student:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_student(config["model_cfg"], config.get("preprocess_cfg"))
    preprocess = config.get("preprocess_cfg") or asdict(PreprocessCfg())
    preprocess = {**preprocess, "size": model.visual.image_size}
    config = {"model_cfg": config["model_cfg"], "preprocess_cfg": preprocess}
    return Student(model, config, tokenizer, name, fresh=True)
