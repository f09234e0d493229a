"""What the axes of a tensor stand for: tensors that share an axis keep the same of its entries."""

from typing import Literal, NamedTuple


class Axis(NamedTuple):
    """One axis of a tensor as it is viewed: the rows of a qkv matrix, say, are three axes (qkv, heads, head_width).

    name: the path of what holds it and what it is, "visual.hidden"; whoever shares it writes the same name.
    kind: "chosen": the student may keep some of its entries; "resized": interpolated to the student's size;
        "fixed": the same in both.
    grid: of a resized axis, the sizes that are interpolated; entries beside them (a class token) are copied.
    """

    name: str
    size: int
    kind: Literal["chosen", "resized", "fixed"] = "chosen"
    grid: tuple[int, ...] = ()


Axes = tuple[Axis, ...]
EMBED = "embed"
"""The axis that both towers write into: the embedding that they share."""
OUTPUTS = ("visual.output", "text.output")
"""Where a tower without a projection says how wide its output is; no tensor."""
RGB = Axis("colours", 3, "fixed")


def linear(name: str, outputs: Axes, inputs: Axes) -> dict[str, Axes]:
    """Weight and bias of a linear layer or, with its kernel at the end of `inputs`, of a convolution."""
    return {f"{name}.weight": (*outputs, *inputs), f"{name}.bias": outputs}


def norm(name: str, *channels: Axis) -> dict[str, Axes]:
    """Weight, bias and running statistics of a LayerNorm or BatchNorm."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": channels for part in parts} | {f"{name}.num_batches_tracked": ()}


def under(prefix: str, axes: dict[str, Axes]) -> dict[str, Axes]:
    """The same tensors, as the module that holds this one names them."""
    return {f"{prefix}.{name}": found for name, found in axes.items()}
