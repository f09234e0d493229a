"""The axes of towers that keep their widths: timm's image towers and transformers' text towers.

Only the tensors that write into the shared embedding have an axis to choose from.
"""

from open_clip.hf_model import HFTextEncoder
from open_clip.timm_model import TimmModel
from torch import nn

from cliptd.embedding.inheritance.axes import EMBED, Axes, Axis, linear, under


def timm_axes(visual: TimmModel) -> dict[str, Axes]:
    """Return the axes of a timm image tower's tensors, whose names begin with "visual."."""
    axes = _fixed_axes("visual", visual)
    classifier = visual.trunk.get_classifier()
    if "proj" in visual.head._modules:
        axes |= _projection_axes("visual.head.proj", visual.head.proj)
    elif "mlp" in visual.head._modules:
        mlp = visual.head.mlp
        axes |= _mlp_axes("visual.head.mlp.fc1", mlp.fc1, "visual.head.mlp.fc2", mlp.fc2)
    elif "pool" not in visual.head._modules and isinstance(classifier, nn.Linear):
        name = next(name for name, module in visual.named_modules() if module is classifier)
        axes |= _projection_axes(f"visual.{name}", classifier)
    elif "pool" not in visual.head._modules and isinstance(classifier, nn.Identity):
        # the trunk's output is the embedding
        axes["visual.output"] = (Axis(EMBED, visual.trunk.num_features, "fixed"),)
    return axes


def transformers_text_axes(text: HFTextEncoder) -> dict[str, Axes]:
    """Return the axes of a transformers text tower's tensors, whose names begin with "text."."""
    axes = _fixed_axes("text", text)
    if isinstance(text.proj, nn.Linear):
        axes |= _projection_axes("text.proj", text.proj)
    elif isinstance(text.proj, nn.Identity):
        axes["text.output"] = (Axis(EMBED, text.output_dim, "fixed"),)
    else:  # an MLP: Linear, GELU, Linear
        axes |= _mlp_axes("text.proj.0", text.proj[0], "text.proj.2", text.proj[2])
    return axes


def _fixed_axes(prefix: str, tower: nn.Module) -> dict[str, Axes]:
    return under(
        prefix,
        {
            name: tuple(Axis(f"{prefix}.{name}[{i}]", size, "fixed") for i, size in enumerate(tensor.shape))
            for name, tensor in tower.state_dict().items()
        },
    )


def _projection_axes(name: str, layer: nn.Linear) -> dict[str, Axes]:
    inputs = Axis(f"{name}.inputs", layer.in_features, "fixed")
    return linear(name, (Axis(EMBED, layer.out_features),), (inputs,))


def _mlp_axes(first_name: str, first: nn.Linear, second_name: str, second: nn.Linear) -> dict[str, Axes]:
    inputs = Axis(f"{first_name}.inputs", first.in_features, "fixed")
    units = Axis(f"{first_name}.units", first.out_features)
    embed = Axis(EMBED, second.out_features)
    return linear(first_name, (units,), (inputs,)) | linear(second_name, (embed,), (units,))
