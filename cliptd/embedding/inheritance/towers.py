"""The parts of an open_clip model by one set of names for both classes, CLIP and CustomTextCLIP."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

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

OpenClipModel: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
TextTower: TypeAlias = open_clip.CLIP | TextTransformer | HFTextEncoder
Rules = dict[type[nn.Module], Callable[[Any], dict[str, Axes]]]
IMAGE_TOWERS: Rules = {
    VisionTransformer: vision_transformer_axes,
    ModifiedResNet: resnet_axes,
    TimmModel: timm_axes,
}
TEXT_TOWERS: Rules = {
    open_clip.CLIP: text_transformer_axes,
    TextTransformer: text_transformer_axes,
    HFTextEncoder: transformers_text_axes,
}
"""The function that lists the axes of each class of tower."""
Value = TypeVar("Value")


def text_tower(model: OpenClipModel) -> TextTower:
    """Return the text tower. A CLIP holds the tower's parts itself, so return the model."""
    return model.text if isinstance(model, open_clip.CustomTextCLIP) else model


def tower_types(model: OpenClipModel) -> dict[str, str]:
    """Return the names of the towers' classes: {"image", "text"}."""
    text = text_tower(model)
    kind = TextTransformer if isinstance(text, open_clip.CLIP) else type(text)
    return {"image": type(model.visual).__name__, "text": kind.__name__}


def model_tensors(model: OpenClipModel) -> dict[str, Tensor]:
    """Return the model's own parameters and buffers. Names in the text tower begin with "text." in both classes."""
    return _renamed(model, model.state_dict().items())


def model_parameters(model: OpenClipModel) -> dict[str, nn.Parameter]:
    """Return the model's parameters, named as by `model_tensors`."""
    return _renamed(model, model.named_parameters())


def model_modules(model: OpenClipModel) -> dict[str, nn.Module]:
    """Return the model's modules, named as by `model_tensors`."""
    return _renamed(model, ((name, module) for name, module in model.named_modules() if name))


def model_axes(model: OpenClipModel) -> dict[str, Axes]:
    """Return the axes of every tensor, by the names of `model_tensors`, and of tensors that similar models have.

    Raises:
        ValueError: no rule covers the class of a tower.
    """
    text = text_tower(model)
    one_each: dict[str, Axes] = {name: () for name in ("logit_scale", "logit_bias")}
    return {
        **_rule(IMAGE_TOWERS, model.visual)(model.visual),
        **_rule(TEXT_TOWERS, text)(text),
        **one_each,
    }


def _rule(rules: Rules, tower: nn.Module) -> Callable[[Any], dict[str, Axes]]:
    for kind, rule in rules.items():
        if isinstance(tower, kind):
            return rule
    expected = ", ".join(kind.__name__ for kind in rules)
    raise ValueError(f"no rule says how to inherit a {type(tower).__name__}; expected one of {expected}")


def _renamed(model: OpenClipModel, named: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    if isinstance(model, open_clip.CustomTextCLIP):
        return dict(named)
    return {
        name if name.split(".")[0] in ("visual", "logit_scale", "logit_bias") else f"text.{name}": value
        for name, value in named
    }
