"""The axes of open_clip's own transformers: the image tower `VisionTransformer` and the text tower."""

from math import prod

import open_clip
from open_clip.transformer import (
    AttentionalPooler,
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
    TextTransformer,
    Transformer,
    VisionTransformer,
)
from torch import nn

from cliptd.embedding.inheritance.axes import EMBED, RGB, Axes, Axis, linear, norm, under

QKV = Axis("qkv", 3, "fixed")
ONE = Axis("one", 1, "fixed")


def vision_transformer_axes(visual: VisionTransformer) -> dict[str, Axes]:
    """Return the axes of a transformer image tower's tensors, whose names begin with "visual."."""
    width = visual.conv1.out_channels
    hidden, embed = Axis("visual.hidden", width), Axis(EMBED, visual.proj.shape[1])
    kernel = visual.conv1.kernel_size
    positions = len(visual.positional_embedding)
    pooled = hidden if visual.attn_pool is None else Axis("visual.pooled", visual.proj.shape[0])
    axes = {
        **linear("conv1", (hidden,), (RGB, Axis("visual.patch", prod(kernel), "resized", kernel))),
        "class_embedding": (hidden,),
        "positional_embedding": (Axis("visual.tokens", positions, "resized", visual.grid_size), hidden),
        **norm("ln_pre", hidden),
        **norm("ln_post", pooled),
        "proj": (pooled, embed),
    }
    if visual.attn_pool is not None:
        axes |= under("attn_pool", _pooler_axes(visual.attn_pool, hidden, pooled))
    axes |= _blocks_axes("visual.", visual.transformer, hidden)
    return under("visual", axes)


def text_transformer_axes(text: TextTransformer | open_clip.CLIP) -> dict[str, Axes]:
    """Return the axes of a transformer text tower's tensors, whose names begin with "text."."""
    vocabulary, width = text.token_embedding.weight.shape
    projection = text.text_projection
    hidden = Axis(EMBED if projection is None else "text.hidden", width)
    positions = Axis(
        "text.context", len(text.positional_embedding), "resized", grid=(int(text.context_length),)
    )
    axes = {
        "token_embedding.weight": (Axis("text.vocabulary", vocabulary, "fixed"), hidden),
        "cls_emb": (hidden,),
        "positional_embedding": (positions, hidden),
        **norm("ln_final", hidden),
    }
    if isinstance(projection, nn.Linear):
        axes |= linear("text_projection", (Axis(EMBED, projection.out_features),), (hidden,))
    elif projection is not None:
        axes["text_projection"] = (hidden, Axis(EMBED, projection.shape[1]))
    axes |= _blocks_axes("text.", text.transformer, hidden)
    return under("text", axes)


def _blocks_axes(tower: str, transformer: Transformer, hidden: Axis) -> dict[str, Axes]:
    axes: dict[str, Axes] = {}
    for i, block in enumerate(transformer.resblocks):
        name = f"transformer.resblocks.{i}"
        axes |= under(name, _block_axes(tower + name, block, hidden))
    return axes


def _block_axes(
    path: str, block: ResidualAttentionBlock | CustomResidualAttentionBlock, hidden: Axis
) -> dict[str, Axes]:
    """Return the axes of a plain or a custom block. They include tensors that only the other kind has."""
    heads = _head_axes(path, block.attn.num_heads, hidden.size)
    units = Axis(f"{path}.units", block.mlp.c_fc.out_features)
    return {
        **norm("ln_1", hidden),
        "attn.in_proj_weight": (QKV, *heads, hidden),
        "attn.in_proj_bias": (QKV, *heads),
        **norm("attn.ln_q", heads[1]),
        **norm("attn.ln_k", heads[1]),
        "attn.logit_scale": (heads[0], ONE, ONE),
        "attn.head_scale": (heads[0], ONE, ONE),
        **norm("attn.ln_inner", *heads),
        **linear("attn.out_proj", (hidden,), heads),
        **norm("ln_attn", hidden),
        "ls_1.gamma": (hidden,),
        **norm("ln_2", hidden),
        **linear("mlp.c_fc", (units,), (hidden,)),
        **norm("mlp.ln", units),
        **linear("mlp.c_proj", (hidden,), (units,)),
        "ls_2.gamma": (hidden,),
    }


def _pooler_axes(pooler: AttentionalPooler, hidden: Axis, pooled: Axis) -> dict[str, Axes]:
    heads = _head_axes("visual.attn_pool", pooler.attn.num_heads, pooled.size)
    # in_proj_weight exists if pooled and hidden have one width: its columns read both
    both = Axis("visual.attn_pool.inputs", pooled.size, "fixed")
    return {
        "query": (Axis("visual.attn_pool.queries", len(pooler.query), "fixed"), pooled),
        **norm("ln_q", pooled),
        **norm("ln_k", hidden),
        "attn.q_proj_weight": (*heads, pooled),
        "attn.k_proj_weight": (*heads, hidden),
        "attn.v_proj_weight": (*heads, hidden),
        "attn.in_proj_weight": (QKV, *heads, both),
        "attn.in_proj_bias": (QKV, *heads),
        **linear("attn.out_proj", (pooled,), heads),
    }


def _head_axes(path: str, heads: int, width: int) -> Axes:
    return Axis(f"{path}.heads", heads), Axis(f"{path}.head_width", width // heads, "fixed")
