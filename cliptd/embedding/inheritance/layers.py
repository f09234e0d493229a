"""Which layer of the teacher each layer of the student comes from."""

from torch import nn

from cliptd.embedding.inheritance.choice import How, chosen_layers

STACKS = ("resblocks", "layer1", "layer2", "layer3", "layer4", "blocks", "block", "layers", "layer")
"""What open_clip, timm and transformers call a sequence of blocks."""

Layers = dict[str, list[int]]


def layers_to_inherit(teacher: dict[str, nn.Module], student: dict[str, nn.Module], how: How) -> Layers:
    """For each stack of the student that is shorter than the teacher's: its layers' indices in the teacher's.

    Args:
        teacher, student: modules by name.

    Raises:
        ValueError: the student has more layers, or its shorter stack is not one of like blocks.
    """
    found: Layers = {}
    for name, stack in student.items():
        original = teacher.get(source_of(name, found))
        if name.split(".")[-1] not in STACKS or not _is_stack(stack) or not _is_stack(original):
            continue
        if len(stack) > len(original):
            raise ValueError(
                f"{name}: the student's config asks for {len(stack)} layers, the teacher has {len(original)}; a "
                "student inherits at most the teacher's layers: lower layers in the config"
            )
        if len(stack) < len(original):
            kinds = sorted({type(block).__name__ for block in original})
            if len(kinds) > 1:
                raise ValueError(
                    f"{name}: the teacher's {len(original)} blocks are of several kinds ({', '.join(kinds)}), so "
                    f"{len(stack)} of them make no tower; keep their number"
                )
            found[name] = chosen_layers(len(original), len(stack), how)
    return found


def source_of(name: str, layers: Layers) -> str:
    """The teacher's name of what the student calls `name`.

    >>> source_of("visual.transformer.resblocks.1.ln_1", {"visual.transformer.resblocks": [0, 5]})
    'visual.transformer.resblocks.5.ln_1'
    """
    parts = name.split(".")
    return ".".join(
        str(layers[stack][int(part)]) if part.isdigit() and (stack := ".".join(parts[:i])) in layers else part
        for i, part in enumerate(parts)
    )


def _is_stack(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList)
