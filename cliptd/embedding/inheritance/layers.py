"""The choice of the teacher's layer that each layer of the student comes from."""

from torch import nn

from cliptd.embedding.inheritance.choice import chosen_layers
from cliptd.embedding.options import How

STACKS = ("resblocks", "layer1", "layer2", "layer3", "layer4", "blocks", "block", "layers", "layer")
"""The names that open_clip, timm and transformers give to a sequence of blocks."""

Stack = nn.Sequential | nn.ModuleList
Layers = dict[str, list[int]]
"""By the name of a stack of the student that is shorter than the teacher's: its layers' indices in the teacher's."""


def layers_to_inherit(teacher: dict[str, nn.Module], student: dict[str, nn.Module], how: How) -> Layers:
    """Return the teacher's layers for each stack of the student that is shorter than the teacher's.

    Args:
        teacher, student: modules by name.
        how: see `inherit_weights`.

    Raises:
        ValueError: the student has more layers, or its shorter stack is not one of like blocks.
    """
    found: Layers = {}
    for name, stack in student.items():
        original = teacher.get(source_of(name, found))
        if name.split(".")[-1] not in STACKS:
            continue
        if not isinstance(stack, Stack) or not isinstance(original, Stack):
            continue
        if len(stack) > len(original):
            raise ValueError(
                f"{name}: the student's config asks for {len(stack)} layers, the teacher has {len(original)}; a "
                "student inherits at most the teacher's layers, so lower layers in the config"
            )
        if len(stack) < len(original):
            kinds = sorted({type(block).__name__ for block in original})
            if len(kinds) > 1:
                raise ValueError(
                    f"{name}: the teacher's {len(original)} blocks are of several kinds ({', '.join(kinds)}), so "
                    f"{len(stack)} of them make no tower; keep all {len(original)}"
                )
            found[name] = chosen_layers(len(original), len(stack), how)
    return found


def source_of(name: str, layers: Layers) -> str:
    """Return the teacher's name for the tensor or module that the student calls `name`.

    >>> source_of("visual.transformer.resblocks.1.ln_1", {"visual.transformer.resblocks": [0, 5]})
    'visual.transformer.resblocks.5.ln_1'
    """
    parts = name.split(".")
    return ".".join(
        str(layers[stack][int(part)]) if part.isdigit() and (stack := ".".join(parts[:i])) in layers else part
        for i, part in enumerate(parts)
    )
