"""The axes of open_clip's `ModifiedResNet`: the stem, one residual stream for each stage, and attention pooling."""

from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet

from cliptd.embedding.inheritance.axes import EMBED, RGB, Axes, Axis, linear, norm, under

KERNEL = (Axis("kernel", 3, "fixed"), Axis("kernel", 3, "fixed"))
POINT = (Axis("point", 1, "fixed"), Axis("point", 1, "fixed"))
STAGES = ("layer1", "layer2", "layer3", "layer4")


def resnet_axes(visual: ModifiedResNet) -> dict[str, Axes]:
    """Return the axes of a ResNet image tower's tensors, whose names begin with "visual."."""
    stem = [
        Axis(f"visual.stem{i}", conv.out_channels)
        for i, conv in enumerate((visual.conv1, visual.conv2, visual.conv3), start=1)
    ]
    axes: dict[str, Axes] = {}
    for i, (into, out) in enumerate(zip([RGB, *stem[:2]], stem, strict=True), start=1):
        axes |= linear(f"conv{i}", (out,), (into, *KERNEL)) | norm(f"bn{i}", out)
    into = stem[2]
    for stage in STAGES:
        blocks = getattr(visual, stage)
        out = Axis(f"visual.{stage}.hidden", blocks[0].conv3.out_channels)
        for i, block in enumerate(blocks):
            name = f"{stage}.{i}"
            axes |= under(name, _bottleneck_axes(f"visual.{name}", block, into if i == 0 else out, out))
        into = out
    return under("visual", axes | under("attnpool", _pool_axes(visual.attnpool, into)))


def _bottleneck_axes(path: str, block: Bottleneck, into: Axis, out: Axis) -> dict[str, Axes]:
    first, second = (
        Axis(f"{path}.channels{i}", conv.out_channels) for i, conv in ((1, block.conv1), (2, block.conv2))
    )
    return {
        **linear("conv1", (first,), (into, *POINT)),
        **norm("bn1", first),
        **linear("conv2", (second,), (first, *KERNEL)),
        **norm("bn2", second),
        **linear("conv3", (out,), (second, *POINT)),
        **norm("bn3", out),
        **linear("downsample.0", (out,), (into, *POINT)),
        **norm("downsample.1", out),
    }


def _pool_axes(pool: AttentionPool2d, hidden: Axis) -> dict[str, Axes]:
    heads = (
        Axis("visual.attnpool.heads", pool.num_heads),
        Axis("visual.attnpool.head_width", hidden.size // pool.num_heads, "fixed"),
    )
    tokens = len(pool.positional_embedding)
    side = round((tokens - 1) ** 0.5)
    return {
        "positional_embedding": (Axis("visual.tokens", tokens, "resized", (side, side)), hidden),
        **linear("q_proj", heads, (hidden,)),
        **linear("k_proj", heads, (hidden,)),
        **linear("v_proj", heads, (hidden,)),
        **linear("c_proj", (Axis(EMBED, pool.c_proj.out_features),), heads),
    }
