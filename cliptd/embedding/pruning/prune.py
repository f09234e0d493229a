"""The end of learned pruning: a plain open_clip model with what its masks keep (TinyCLIP, arXiv 2309.12314)."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor

from cliptd.embedding.inheritance.inherit import copy_weights
from cliptd.embedding.inheritance.student_config import ModelConfig, build_student
from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.embedding.options import Tower
from cliptd.embedding.pruning.hard_concrete import HardConcrete
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder, named_values
from cliptd.embedding.pruning.tower_masks import MaskValues, TowerMasks, TowerShape

KEPT_MASK_VALUE = 1e-3
"""The least value of a mask that is kept.

A closed mask may be kept to reach the size. The pruned model's LayerNorms count its channel, so it must not be 0.
"""
ROUNDING_MARGIN = 1e-9
"""Added to units / width so that int(width · ratio) is `units` and not one less by rounding."""


class Kept(NamedTuple):
    """The ascending indices that a tower keeps: hidden (width,), heads (layers, heads), units (layers, units)."""

    hidden: Tensor
    heads: Tensor
    units: Tensor


def uniform_shape(masks: TowerMasks, sparsity: float) -> TowerShape:
    """Return the shape of a tower with a share 1 - `sparsity` of the parameters and equal layers.

    An open_clip config can only describe equal layers. The width is the number of channels that the masks expect to
    stay open, rounded to whole heads. The units of the MLPs take the rest of the parameters.

    Raises:
        ValueError: no tower is that sparse.
    """
    shape = masks.shape
    budget = (1 - sparsity) * shape.parameters / shape.layers
    expected = masks.hidden.probability_open().sum().item() / shape.head_width
    for heads in sorted(range(1, shape.heads + 1), key=lambda heads: (abs(heads - expected), heads)):
        width = heads * shape.head_width
        units = round((budget / width - 4 * width) / 2)
        if 1 <= units <= shape.units:
            return TowerShape(shape.layers, width, heads, units)
        if heads == shape.heads and units > shape.units:  # rounding, at sparsity 0
            return shape
    raise ValueError(
        f"sparsity {sparsity:g} leaves {budget:.0f} parameters a layer, and no tower with 1 to {shape.heads} heads of "
        f"{shape.head_width} channels and 1 to {shape.units} units has so many; choose another sparsity"
    )


@torch.no_grad()
def keep(masks: TowerMasks, shape: TowerShape) -> Kept:
    """Return the channels, heads and units with the largest log α, of equal ones the first."""

    def largest(log_alpha: Tensor, count: int) -> Tensor:
        order = log_alpha.argsort(dim=-1, descending=True, stable=True)
        return order[..., :count].sort(dim=-1).values

    return Kept(
        largest(masks.hidden.log_alpha, shape.width),
        largest(masks.heads.log_alpha, shape.heads),
        largest(masks.units.log_alpha, shape.units),
    )


@torch.no_grad()
def hardened(masks: TowerMasks, kept: Kept) -> MaskValues:
    """Return the masks' values without noise where they are kept, and 0 elsewhere."""

    def values(mask: HardConcrete, index: Tensor) -> Tensor:
        certain = mask.certain().clamp(min=KEPT_MASK_VALUE)
        return torch.zeros_like(mask.log_alpha).scatter(-1, index, certain.gather(-1, index))

    return values(masks.hidden, kept.hidden), values(masks.heads, kept.heads), values(masks.units, kept.units)


@torch.no_grad()
def prune(
    masked: MaskedDualEncoder, model_cfg: ModelConfig, sparsity: float
) -> tuple[OpenClipModel, ModelConfig]:
    """Return an ordinary open_clip model that computes what the masked one does with hardened masks, and its config.

    An open_clip config has one width and one number of heads and units per tower, so every layer keeps as many. The
    masks' values are multiplied into the weights. The masked model cannot be used afterwards.

    Args:
        masked: the masked model after training.
        model_cfg: the config of its model.
        sparsity: the share of each masked tower's matrices that is removed, from 0 to below 1.

    Raises:
        ValueError: see `uniform_shape`.
    """
    config = copy.deepcopy(model_cfg)
    indices: dict[str, Tensor] = {}
    folded: dict[str, Tensor] = {}
    for tower, masks in masked.tower_masks().items():
        shape = uniform_shape(masks, sparsity)
        kept = keep(masks, shape)
        folded |= masked.masked_tensors(tower, hardened(masks, kept))
        indices |= dict(named_values(tower, kept))
        config[_SECTION[tower]] |= _sizes(tower, shape)
    model = masked.unmasked()
    model.load_state_dict(folded, strict=False)
    student = build_student(config, getattr(model.visual, "preprocess_cfg", None))
    copy_weights(model, student, {}, indices)
    return student, config


_SECTION: dict[Tower, str] = {"image": "vision_cfg", "text": "text_cfg"}


def _sizes(tower: Tower, shape: TowerShape) -> ModelConfig:
    ratio = shape.units / shape.width
    if math.floor(ratio * shape.width) != shape.units:
        ratio += ROUNDING_MARGIN
    own_heads = {"heads": shape.heads} if tower == "text" else {"head_width": shape.head_width}
    return {"width": shape.width, "mlp_ratio": ratio, **own_heads}
