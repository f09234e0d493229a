"""Learned pruning: hard-concrete masks over channels, heads and MLP units of transformer towers (TinyCLIP)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.func import functional_call

from cliptd.embedding.inheritance.axes import Axes
from cliptd.embedding.inheritance.towers import model_axes, model_modules, model_parameters
from cliptd.embedding.pruning.hard_concrete import HardConcrete

Tower = Literal["image", "text"]
PREFIX = {"image": "visual", "text": "text"}
WRITERS = (
    "conv1.weight", "conv1.bias", "class_embedding", "positional_embedding", "cls_emb", "token_embedding.weight",
    "ln_pre.weight", "ln_pre.bias", "attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)  # fmt: skip
"""Ends of the names of tensors that write into the residual stream; there its channels are masked, and in the last two
matrices the heads and the units that they read."""


@dataclass(frozen=True)
class TowerShape:
    """layers, width (channels of the residual stream), heads a layer and units of each MLP of a transformer tower."""

    layers: int
    width: int
    heads: int
    units: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Of the matrices that masks prune: q, k, v, the output and the MLP's two."""
        return self.layers * self.width * (4 * self.width + 2 * self.units)


class TowerMasks(nn.Module):
    """The masks of one tower: of channels, which all layers share, and of each layer's own heads and units.

    shape: of the tower. Their price is λ₁ (p − q) + λ₂ (p − q)², p the expected sparsity and q the one that is asked
    for, with λ that climb while everything else descends.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.hidden = HardConcrete(shape.width)
        self.heads = HardConcrete(shape.layers, shape.heads)
        self.units = HardConcrete(shape.layers, shape.units)
        self.lambdas = nn.Parameter(torch.zeros(2))

    def expected_sparsity(self) -> Tensor:
        """1 − E[parameters that are left] / parameters of the tower's matrices."""
        hidden, heads, units = (mask.probability_open() for mask in (self.hidden, self.heads, self.units))
        left = hidden.sum() * (4 * self.shape.head_width * heads.sum() + 2 * units.sum())
        return 1 - left / self.shape.parameters

    @torch.no_grad()
    def real_sparsity(self) -> float:
        """1 − parameters that are left / parameters, if now the masks that are closed without noise were taken out."""
        hidden, heads, units = ((mask.certain() > 0).sum() for mask in (self.hidden, self.heads, self.units))
        return 1 - (hidden * (4 * self.shape.head_width * heads + 2 * units)).item() / self.shape.parameters

    def price(self, asked: float | Tensor) -> Tensor:
        """λ₁ (p − q) + λ₂ (p − q)² for the sparsity q = `asked`, from 0 to 1."""
        lambdas = _Ascent.apply(self.lambdas)
        excess = self.expected_sparsity() - asked
        return lambdas[0] * excess + lambdas[1] * excess.square()

    def forward(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Values of hidden (width,), heads (layers, heads) and units (layers, units): a sample in training."""
        masks = (self.hidden, self.heads, self.units)
        return tuple(mask.sample(generator) if self.training else mask.certain() for mask in masks)


class MaskedDualEncoder(nn.Module):
    """An open_clip model seen through masks, of which training draws samples and evaluation has none.

    `encode_image`, `encode_text`, `logit_scale`, `logit_bias` and `visual` are as the model's, and the same to rounding
    while every mask is 1. The model keeps its own tensors; its LayerNorms are exchanged for ones that leave closed
    channels out, until `unmasked`.

    Args:
        model: an open_clip CLIP or CustomTextCLIP.
        towers: whose masks are learned.
        sparsity: that training asks for, 0 to 1.
        ramp_steps: training steps over which it rises to that from 0.
        seed: of the samples, with the step.

    Raises:
        ValueError: a tower is no plain open_clip transformer and has nothing to mask.
    """

    def __init__(
        self,
        model: nn.Module,
        towers: Sequence[Tower] = ("image", "text"),
        *,
        sparsity: float = 0.5,
        ramp_steps: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is {sparsity}, expected a share from 0 to below 1")
        self.sparsity, self.ramp_steps, self.seed = sparsity, ramp_steps, seed
        self.register_buffer("priced_steps", torch.zeros((), dtype=torch.int64))
        shapes = {tower: tower_shape(model, tower) for tower in towers}
        self._axes = model_axes(model)
        self.inner = _Inner(model)
        self.masks = nn.ModuleDict({tower: TowerMasks(shape) for tower, shape in shapes.items()})
        self._norms = [found for tower in towers for found in _exchange_norms(model, tower)]

    @property
    def clip(self) -> nn.Module:
        """The model."""
        return self.inner.clip

    @property
    def logit_scale(self) -> nn.Parameter:
        return self.clip.logit_scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        return self.clip.logit_bias

    @property
    def visual(self) -> nn.Module:
        return self.clip.visual

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self._seen("image", pixels, None)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self._seen("text", None, tokens)

    def expected_sparsity(self) -> dict[str, Tensor]:
        """Of each masked tower."""
        return {tower: masks.expected_sparsity() for tower, masks in self.masks.items()}

    def real_sparsity(self) -> dict[str, float]:
        """Of each masked tower, if now the masks that are closed without noise were taken out."""
        return {tower: masks.real_sparsity() for tower, masks in self.masks.items()}

    def next_price(self) -> Tensor:
        """Of all towers, for what is asked at this training step: each call is one."""
        asked = self.sparsity * (self.priced_steps / max(1, self.ramp_steps)).clamp(max=1)
        self.priced_steps += 1
        return sum(masks.price(asked) for masks in self.masks.values())

    def unmasked(self) -> nn.Module:
        """The model with its own LayerNorms again."""
        for parent, name, norm in self._norms:
            setattr(parent, name, norm)
        return self.clip

    def masked_tensors(self, tower: Tower, values: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """What masks make of the tower's tensors, by open_clip's names.

        values: as `TowerMasks` returns them.
        """
        of_axis = dict(named_values(tower, values))
        found = {}
        own_names = {id(tensor): name for name, tensor in self.clip.named_parameters()}
        for name, tensor in model_parameters(self.clip).items():
            if name.startswith(PREFIX[tower]) and name.endswith(WRITERS):
                found[own_names[id(tensor)]] = _multiplied(tensor, self._axes[name], of_axis)
        return found

    def _seen(self, tower: Tower, pixels: Tensor | None, tokens: Tensor | None) -> Tensor:
        if tower not in self.masks:
            return self.inner(pixels, tokens)
        # of the step alone: the same masks on every process, and again after a restart
        generator = torch.Generator().manual_seed(
            (self.seed << 32) + 2 * int(self.priced_steps) + (tower == "text")
        )
        values = self.masks[tower](generator)
        exchanged = {f"clip.{name}": tensor for name, tensor in self.masked_tensors(tower, values).items()}
        is_open = (values[0] > 0).float()
        for name, module in self.inner.named_modules():
            if isinstance(module, OpenChannelsNorm) and module.tower == tower:
                exchanged[f"{name}.is_open"] = is_open
        return functional_call(self.inner, exchanged, (pixels, tokens))


def named_values(tower: Tower, values: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What each axis is multiplied by, by its name; values: hidden, heads and units as `TowerMasks` returns them."""
    hidden, heads, units = values
    yield f"{PREFIX[tower]}.hidden", hidden
    for layer in range(len(heads)):
        yield f"{PREFIX[tower]}.transformer.resblocks.{layer}.heads", heads[layer]
        yield f"{PREFIX[tower]}.transformer.resblocks.{layer}.units", units[layer]


class OpenChannelsNorm(nn.LayerNorm):
    """LayerNorm over the channels that are open; closed ones come out as 0. Computed in float32."""

    def __init__(self, norm: nn.LayerNorm, tower: Tower) -> None:
        super().__init__(norm.normalized_shape, eps=norm.eps)
        self.weight, self.bias, self.tower = norm.weight, norm.bias, tower
        self.register_buffer("is_open", torch.ones(norm.normalized_shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        is_open, values = self.is_open, x.float()
        count = is_open.sum().clamp(min=1)
        centred = (values - (values * is_open).sum(-1, keepdim=True) / count) * is_open
        variance = centred.square().sum(-1, keepdim=True) / count
        normed = centred * torch.rsqrt(variance + self.eps)
        return ((normed * self.weight + self.bias) * is_open).to(x.dtype)


class _Inner(nn.Module):
    """One tower at a time, as a forward that `functional_call` can make."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor | None, tokens: Tensor | None) -> Tensor:
        return self.clip.encode_text(tokens) if pixels is None else self.clip.encode_image(pixels)


class _Ascent(torch.autograd.Function):
    """The numbers themselves, with the gradient turned round: a descending optimizer makes them climb."""

    @staticmethod
    def forward(ctx, numbers: Tensor) -> Tensor:
        return numbers.view_as(numbers)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return -gradient


def _multiplied(tensor: Tensor, axes: Axes, of_axis: dict[str, Tensor]) -> Tensor:
    viewed = tensor.reshape([axis.size for axis in axes])
    for i, axis in enumerate(axes):
        if axis.name in of_axis:
            shape = [axis.size if k == i else 1 for k in range(len(axes))]
            viewed = viewed * of_axis[axis.name].to(tensor.dtype).reshape(shape)
    return viewed.reshape(tensor.shape)


def tower_shape(model: nn.Module, tower: Tower) -> TowerShape:
    """What there is to mask. Raises ValueError for a tower that is no plain open_clip transformer."""
    modules, axes = model_modules(model), model_axes(model)
    stack = modules.get(f"{PREFIX[tower]}.transformer.resblocks", ())
    plain = len(stack) > 0 and all(type(block) is ResidualAttentionBlock for block in stack)
    projection = "visual.proj" if tower == "image" else "text.text_projection"
    projected = projection in axes or f"{projection}.weight" in axes
    pooled = tower == "image" and getattr(modules["visual"], "attn_pool", None) is not None
    if not plain or not projected or pooled:
        kind = type(modules["visual"] if tower == "image" else modules.get("text", model)).__name__
        raise ValueError(
            f"the {tower} tower ({kind}) has no masks to learn: they are for open_clip's own transformer of plain "
            "blocks with a projection; leave this tower out, or shrink it by inherit_weights"
        )
    block = stack[0]
    return TowerShape(len(stack), block.attn.embed_dim, block.attn.num_heads, block.mlp.c_fc.out_features)


def _exchange_norms(model: nn.Module, tower: Tower) -> list[tuple[nn.Module, str, nn.LayerNorm]]:
    """Put an `OpenChannelsNorm` for every LayerNorm of the tower; what was where."""
    standard = {id(module): name for name, module in model_modules(model).items()}
    found = []
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.LayerNorm) and standard[id(module)].startswith(PREFIX[tower]):
                found.append((parent, name, module))
                setattr(parent, name, OpenChannelsNorm(module, tower))
    return found
