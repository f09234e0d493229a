"""The parts of an open_clip model by one set of names, whether its class is CLIP or CustomTextCLIP."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import open_clip
from open_clip.hf_model import HFTextEncoder
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import Tensor, nn

from cliptd.embedding.inheritance.axes import Axes
from cliptd.embedding.inheritance.copied_axes import timm_axes, transformers_text_axes
from cliptd.embedding.inheritance.resnet_axes import resnet_axes
from cliptd.embedding.inheritance.transformer_axes import text_transformer_axes, vision_transformer_axes

IMAGE_TOWERS = {VisionTransformer: vision_transformer_axes, ModifiedResNet: resnet_axes, TimmModel: timm_axes}
TEXT_TOWERS = {
    open_clip.CLIP: text_transformer_axes,
    TextTransformer: text_transformer_axes,
    HFTextEncoder: transformers_text_axes,
}
Value = TypeVar("Value")


def text_tower(model: nn.Module) -> nn.Module:
    """The text tower; of a CLIP, which holds its parts itself, the model."""
    return model.text if isinstance(model, open_clip.CustomTextCLIP) else model


def tower_types(model: nn.Module) -> dict[str, str]:
    """What kind of tower reads the images, and what kind the texts."""
    text = text_tower(model)
    kind = TextTransformer if isinstance(text, open_clip.CLIP) else type(text)
    return {"image": type(model.visual).__name__, "text": kind.__name__}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Its parameters and buffers, which writing to changes; every text tower's begin with "text."."""
    return _renamed(model, model.state_dict().items())


def model_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Its parameters, named as `model_tensors` does."""
    return _renamed(model, model.named_parameters())


def model_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Its modules, named as `model_tensors` does."""
    return _renamed(model, ((name, module) for name, module in model.named_modules() if name))


def model_axes(model: nn.Module) -> dict[str, Axes]:
    """The axes of every tensor of a CLIP or CustomTextCLIP, and of tensors that others of its kind have."""
    text = text_tower(model)
    one_each = {name: () for name in ("logit_scale", "logit_bias")}
    return {
        **_rule(IMAGE_TOWERS, model.visual)(model.visual),
        **_rule(TEXT_TOWERS, text)(text),
        **one_each,
    }


def _rule(rules: dict[type, Callable[[nn.Module], dict[str, Axes]]], tower: nn.Module) -> Callable:
    for kind, rule in rules.items():
        if isinstance(tower, kind):
            return rule
    expected = ", ".join(kind.__name__ for kind in rules)
    raise ValueError(f"no rule says how to inherit a {type(tower).__name__}; expected one of {expected}")


def _renamed(model: nn.Module, named: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    if isinstance(model, open_clip.CustomTextCLIP):
        return dict(named)
    return {
        name if name.split(".")[0] in ("visual", "logit_scale", "logit_bias") else f"text.{name}": value
        for name, value in named
    }
