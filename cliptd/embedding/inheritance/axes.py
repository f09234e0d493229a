"""The meaning of each axis of a tensor. Tensors that share an axis keep the same entries of it."""

from typing import Literal, NamedTuple


class Axis(NamedTuple):
    """One axis of a tensor, in a view with one axis per meaning.

    The rows of a qkv matrix, for example, are three axes: (qkv, heads, head_width).

    name: the path of the module and the meaning, such as "visual.hidden". Tensors that share the axis use one name.
    kind: "chosen": the student may keep only some entries; "resized": interpolated to the student's size;
        "fixed": the same in teacher and student.
    grid: for a resized axis, the sizes that are interpolated. Other entries, such as a class token, are copied.
    """

    name: str
    size: int
    kind: Literal["chosen", "resized", "fixed"] = "chosen"
    grid: tuple[int, ...] = ()


Axes = tuple[Axis, ...]
EMBED = "embed"
"""The name of the axis that both towers write into: the shared embedding."""
OUTPUTS = ("visual.output", "text.output")
"""Names under which towers without a projection list the width of their output. No tensor has these names."""
RGB = Axis("colours", 3, "fixed")


def linear(name: str, outputs: Axes, inputs: Axes) -> dict[str, Axes]:
    """Return the axes of weight and bias of a linear layer, or of a convolution if `inputs` ends with its kernel."""
    return {f"{name}.weight": (*outputs, *inputs), f"{name}.bias": outputs}


def norm(name: str, *channels: Axis) -> dict[str, Axes]:
    """Return the axes of weight, bias and running statistics of a LayerNorm or BatchNorm."""
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": channels for part in parts} | {f"{name}.num_batches_tracked": ()}


def under(prefix: str, axes: dict[str, Axes]) -> dict[str, Axes]:
    """Return the same axes, with the names that the parent module gives to the tensors."""
    return {f"{prefix}.{name}": found for name, found in axes.items()}
