"""A dual encoder that computes through learned masks of channels, heads and MLP units (TinyCLIP, arXiv 2309.12314)."""

from collections.abc import Iterator, Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.func import functional_call

from cliptd.embedding.inheritance.axes import Axes
from cliptd.embedding.inheritance.towers import OpenClipModel, model_axes, model_modules, model_parameters
from cliptd.embedding.options import TOWERS, Tower
from cliptd.embedding.pruning.tower_masks import MaskValues, TowerMasks, TowerShape

PREFIX: dict[Tower, str] = {"image": "visual", "text": "text"}
WRITERS = (
    "conv1.weight", "conv1.bias", "class_embedding", "positional_embedding", "cls_emb", "token_embedding.weight",
    "ln_pre.weight", "ln_pre.bias", "attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)  # fmt: skip
"""Ends of the names of tensors that write into the residual stream.

Masks of channels multiply all of them. Masks of heads and of units multiply the inputs of the last two matrices.
"""


class MaskedDualEncoder(nn.Module):
    """An open_clip model whose towers compute through masks: with samples in training, without noise in evaluation.

    It has the model's `encode_image`, `encode_text`, `logit_scale`, `logit_bias` and `visual`. While every mask is 1
    the embeddings equal the model's up to rounding. The model keeps its own tensors. Its LayerNorms are replaced by
    ones that ignore closed channels, until `unmasked` is called.

    Args:
        model: an open_clip CLIP or CustomTextCLIP.
        towers: the towers with learned masks.
        sparsity: the share of a tower's matrices to close, from 0 to below 1.
        ramp_steps: training steps over which the sparsity to reach rises from 0 to `sparsity`.
        seed: decides the samples, together with the training step.

    Raises:
        ValueError: a tower is no plain open_clip transformer, so it has nothing to mask.
    """

    def __init__(
        self,
        model: OpenClipModel,
        towers: Sequence[Tower] = TOWERS,
        *,
        sparsity: float = 0.5,
        ramp_steps: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= sparsity < 1:
            raise ValueError(f"sparsity is {sparsity}, expected a share from 0 to below 1")
        self.sparsity, self.ramp_steps, self.seed = sparsity, ramp_steps, seed
        self.priced_steps: Tensor
        self.register_buffer("priced_steps", torch.zeros((), dtype=torch.int64))
        shapes = {tower: tower_shape(model, tower) for tower in towers}
        self._axes = model_axes(model)
        self.inner = _Inner(model)
        self.masks = nn.ModuleDict({tower: TowerMasks(shape) for tower, shape in shapes.items()})
        self._norms = [found for tower in towers for found in _exchange_norms(model, tower)]

    @property
    def clip(self) -> OpenClipModel:
        """Return the model."""
        return self.inner.clip

    @property
    def logit_scale(self) -> nn.Parameter:
        """Return the model's parameter, the logarithm of its logit scale."""
        return self.clip.logit_scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """Return the model's logit bias, which only a SigLIP has."""
        return self.clip.logit_bias

    @property
    def visual(self) -> nn.Module:
        """Return the model's image tower."""
        return self.clip.visual

    def tower_masks(self) -> dict[Tower, TowerMasks]:
        """Return the masks of each masked tower."""
        found: dict[Tower, TowerMasks] = {}
        for tower in TOWERS:
            if tower in self.masks:
                masks = self.masks[tower]
                assert isinstance(masks, TowerMasks)
                found[tower] = masks
        return found

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Embed (images, 3, height, width) pixels: (images, dim), not normalised."""
        return self._seen("image", pixels, None)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Embed (texts, tokens) ids: (texts, dim), not normalised."""
        return self._seen("text", None, tokens)

    def expected_sparsity(self) -> dict[Tower, Tensor]:
        """Return the expected sparsity of each masked tower."""
        return {tower: masks.expected_sparsity() for tower, masks in self.tower_masks().items()}

    def real_sparsity(self) -> dict[Tower, float]:
        """Return the sparsity of each masked tower after pruning the masks that are closed without noise."""
        return {tower: masks.real_sparsity() for tower, masks in self.tower_masks().items()}

    def next_price(self) -> Tensor:
        """Return the price of all towers at the sparsity to reach in this training step, and count the step."""
        asked = self.sparsity * (self.priced_steps / max(1, self.ramp_steps)).clamp(max=1)
        self.priced_steps += 1
        first, *others = (masks.price(asked) for masks in self.tower_masks().values())
        return sum(others, start=first)

    def unmasked(self) -> OpenClipModel:
        """Put the model's own LayerNorms back and return the model."""
        for parent, name, norm in self._norms:
            setattr(parent, name, norm)
        return self.clip

    def masked_tensors(self, tower: Tower, values: MaskValues) -> dict[str, Tensor]:
        """Return the tower's tensors that masks multiply, multiplied by the masks' values, by open_clip's names."""
        of_axis = dict(named_values(tower, values))
        found = {}
        own_names = {id(tensor): name for name, tensor in self.clip.named_parameters()}
        for name, tensor in model_parameters(self.clip).items():
            if name.startswith(PREFIX[tower]) and name.endswith(WRITERS):
                found[own_names[id(tensor)]] = _multiplied(tensor, self._axes[name], of_axis)
        return found

    def _seen(self, tower: Tower, pixels: Tensor | None, tokens: Tensor | None) -> Tensor:
        masks = self.tower_masks().get(tower)
        if masks is None:
            return self.inner(pixels, tokens)
        # the step alone decides: the masks are the same on every process and after a restart
        generator = torch.Generator().manual_seed(
            (self.seed << 32) + 2 * int(self.priced_steps) + (tower == "text")
        )
        values = masks(generator)
        exchanged = {f"clip.{name}": tensor for name, tensor in self.masked_tensors(tower, values).items()}
        is_open = (values[0] > 0).float()
        for name, module in self.inner.named_modules():
            if isinstance(module, OpenChannelsNorm) and module.tower == tower:
                exchanged[f"{name}.is_open"] = is_open
        return functional_call(self.inner, exchanged, (pixels, tokens))


def named_values(tower: Tower, values: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield (name of an axis, what belongs to its entries) from the hidden, heads and units of a tower."""
    hidden, heads, units = values
    yield f"{PREFIX[tower]}.hidden", hidden
    for layer in range(len(heads)):
        yield f"{PREFIX[tower]}.transformer.resblocks.{layer}.heads", heads[layer]
        yield f"{PREFIX[tower]}.transformer.resblocks.{layer}.units", units[layer]


class OpenChannelsNorm(nn.LayerNorm):
    """A LayerNorm over the open channels. Closed channels come out as 0. It computes in float32."""

    def __init__(self, norm: nn.LayerNorm, tower: Tower) -> None:
        super().__init__(norm.normalized_shape, eps=norm.eps)
        self.weight, self.bias, self.tower = norm.weight, norm.bias, tower
        self.is_open: Tensor
        self.register_buffer("is_open", torch.ones(norm.normalized_shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (…, width) features; the result has their type."""
        is_open, values = self.is_open, x.float()
        count = is_open.sum().clamp(min=1)
        centred = (values - (values * is_open).sum(-1, keepdim=True) / count) * is_open
        variance = centred.square().sum(-1, keepdim=True) / count
        normed = centred * torch.rsqrt(variance + self.eps)
        return ((normed * self.weight + self.bias) * is_open).to(x.dtype)


class _Inner(nn.Module):
    """A model with a forward for one tower at a time, as `functional_call` needs it."""

    def __init__(self, clip: OpenClipModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor | None, tokens: Tensor | None) -> Tensor:
        return self.clip.encode_text(tokens) if pixels is None else self.clip.encode_image(pixels)


def _multiplied(tensor: Tensor, axes: Axes, of_axis: dict[str, Tensor]) -> Tensor:
    viewed = tensor.reshape([axis.size for axis in axes])
    for i, axis in enumerate(axes):
        if axis.name in of_axis:
            shape = [axis.size if k == i else 1 for k in range(len(axes))]
            viewed = viewed * of_axis[axis.name].to(tensor.dtype).reshape(shape)
    return viewed.reshape(tensor.shape)


def tower_shape(model: OpenClipModel, tower: Tower) -> TowerShape:
    """Return the sizes of a tower that can be masked.

    Raises:
        ValueError: the tower is no plain open_clip transformer.
    """
    modules, axes = model_modules(model), model_axes(model)
    stack = modules.get(f"{PREFIX[tower]}.transformer.resblocks")
    blocks = [] if stack is None else list(stack.children())
    plain = len(blocks) > 0 and all(type(block) is ResidualAttentionBlock for block in blocks)
    projection = "visual.proj" if tower == "image" else "text.text_projection"
    projected = projection in axes or f"{projection}.weight" in axes
    pooled = tower == "image" and getattr(modules["visual"], "attn_pool", None) is not None
    if not plain or not projected or pooled:
        kind = type(modules["visual"] if tower == "image" else modules.get("text", model)).__name__
        raise ValueError(
            f"the {tower} tower ({kind}) has no masks to learn, because it is no open_clip transformer of plain blocks "
            "with a projection; leave this tower as it is, or shrink it by inherit_weights"
        )
    block: ResidualAttentionBlock = blocks[0]
    return TowerShape(len(blocks), block.attn.embed_dim, block.attn.num_heads, block.mlp.c_fc.out_features)


def _exchange_norms(model: OpenClipModel, tower: Tower) -> list[tuple[nn.Module, str, nn.LayerNorm]]:
    """Replace every LayerNorm of the tower by an `OpenChannelsNorm`; return (parent, name, LayerNorm) of each."""
    standard = {id(module): name for name, module in model_modules(model).items()}
    found = []
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if isinstance(module, nn.LayerNorm) and standard[id(module)].startswith(PREFIX[tower]):
                found.append((parent, name, module))
                setattr(parent, name, OpenChannelsNorm(module, tower))
    return found
