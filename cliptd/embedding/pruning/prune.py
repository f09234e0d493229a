"""The end of learned pruning: masks become 0 or stay, and the model shrinks to a plain open_clip model (TinyCLIP)."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cliptd.embedding.inheritance.inherit import copy_weights
from cliptd.embedding.inheritance.student_config import build_student
from cliptd.embedding.pruning.masks import MaskedDualEncoder, Tower, TowerMasks, TowerShape, named_values

KEPT_MASK_VALUE = 1e-3
"""Least value of a mask that is kept though it has closed: what stays counts in LayerNorms, as in the pruned model."""
ROUNDING_MARGIN = 1e-9
"""Keeps int(width · (units / width)) at `units` against rounding down."""


class Kept(NamedTuple):
    """What of a tower stays, ascending int64: hidden (width,), heads (layers, heads), units (layers, units)."""

    hidden: Tensor
    heads: Tensor
    units: Tensor


def uniform_shape(masks: TowerMasks, sparsity: float) -> TowerShape:
    """The shape that an open_clip config can say, every layer alike, with a share 1 - `sparsity` of the parameters.

    The width is the one that the masks of channels expect, rounded to whole heads; the units of the MLPs take the rest
    of the parameters.

    Raises:
        ValueError: not even the smallest tower is that sparse.
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
        f"{shape.head_width} channels and 1 to {shape.units} units has so many; ask for another"
    )


@torch.no_grad()
def keep(masks: TowerMasks, shape: TowerShape) -> Kept:
    """The channels, heads and units of the largest log α; of equals the first."""

    def largest(log_alpha: Tensor, count: int) -> Tensor:
        order = log_alpha.argsort(dim=-1, descending=True, stable=True)
        return order[..., :count].sort(dim=-1).values

    return Kept(
        largest(masks.hidden.log_alpha, shape.width),
        largest(masks.heads.log_alpha, shape.heads),
        largest(masks.units.log_alpha, shape.units),
    )


@torch.no_grad()
def hardened(masks: TowerMasks, kept: Kept) -> tuple[Tensor, Tensor, Tensor]:
    """The masks' values without noise where they are kept, 0 elsewhere; shapes as `TowerMasks` returns."""
    return tuple(
        torch.zeros_like(mask.log_alpha).scatter(
            -1, index, mask.certain().clamp(min=KEPT_MASK_VALUE).gather(-1, index)
        )
        for mask, index in zip((masks.hidden, masks.heads, masks.units), kept, strict=True)
    )


@torch.no_grad()
def prune(masked: MaskedDualEncoder, model_cfg: dict, sparsity: float) -> tuple[nn.Module, dict]:
    """An ordinary open_clip model that does what the masked one does with its masks hardened, and its config.

    open_clip's configs know one width and one number of heads and units a tower, so every layer keeps as many; the
    masks' values are multiplied into the weights. The masked model is used up.

    Args:
        masked: after training.
        model_cfg: of its model.
        sparsity: of each masked tower's matrices, 0 to 1.

    Raises:
        ValueError: see `uniform_shape`.
    """
    config, indices = copy.deepcopy(model_cfg), {}
    folded = {}
    for tower, masks in masked.masks.items():
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


def _sizes(tower: Tower, shape: TowerShape) -> dict:
    ratio = shape.units / shape.width
    if math.floor(ratio * shape.width) != shape.units:
        ratio += ROUNDING_MARGIN
    own_heads = {"heads": shape.heads} if tower == "text" else {"head_width": shape.head_width}
    return {"width": shape.width, "mlp_ratio": ratio, **own_heads}
