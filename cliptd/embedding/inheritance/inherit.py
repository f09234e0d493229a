"""`inherit_weights`: a student that starts with some of its teacher's layers, channels, heads and units (TinyCLIP)."""

from typing import Any, get_args

import open_clip
import torch
from torch import Tensor

from cliptd.embedding.inheritance.alike import check_same_function, check_same_towers
from cliptd.embedding.inheritance.axes import OUTPUTS, Axes, Axis
from cliptd.embedding.inheritance.choice import chosen_entries, importance_of_entries
from cliptd.embedding.inheritance.layers import Layers, layers_to_inherit, source_of
from cliptd.embedding.inheritance.resizing import RESIZE
from cliptd.embedding.inheritance.student_config import build_student
from cliptd.embedding.inheritance.towers import OpenClipModel, model_axes, model_modules, model_tensors
from cliptd.embedding.options import How

CONFIG_OF = {
    "hidden": "width",
    "heads": "width, or the head width",
    "head_width": "head_width, or heads beside width,",
    "units": "mlp_ratio",
    "channels": "width",
    "stem": "width",
    "embed": "embed_dim",
    "vocabulary": "vocab_size (and the tokenizer)",
    "queries": "attn_pooler_queries",
}
"""The setting of the config that sets the size of an axis, by the last part of the axis's name."""


def inherit_weights(model: OpenClipModel, config: dict[str, Any], how: How = "even") -> OpenClipModel:
    """Return a student of `config` that starts with the weights of a larger model of its kind.

    Both towers keep some of their layers. Where an axis is narrower in the student, it keeps some of the entries:

    - channels of the residual stream, the same ones in all layers;
    - whole attention heads and MLP units, each layer its own;
    - dimensions of the embedding, the same ones for image and text.

    Positional embeddings and patch kernels are interpolated. Of a timm or transformers tower only the number of layers
    can change. A config equal to the teacher's gives equal weights, bit for bit.

    Args:
        model: the teacher, an open_clip CLIP or CustomTextCLIP. It stays as it is.
        config: an open_clip model_cfg, as in open_clip_config.json["model_cfg"]; see `shrunk_config`.
        how: "even": evenly spaced layers with the first and the last one, and leading channels, heads and units.
            "leading": the first layers, and leading channels, heads and units.
            "magnitude": evenly spaced layers, and the channels, heads and units with the largest sum of |w| over the
            matrices that read or write them.

    Returns: an open_clip model in float32 on the CPU, to be trained.
    Raises:
        TypeError: the model is not one of open_clip's.
        ValueError: the student is wider or deeper, has another vocabulary, head width, architecture or activation, or
            a tensor that the teacher lacks; the message says which.

    Source: manual inheritance of TinyCLIP (arXiv 2309.12314). Its code takes the leading channels and, for 12 → 9
        layers, the first nine.
    """
    if not isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP):
        raise TypeError(
            f"found a {type(model).__name__}; give an open_clip CLIP or CustomTextCLIP, such as "
            "load_teacher(…).model"
        )
    if how not in get_args(How):
        raise ValueError(f"how is {how!r}; expected one of {', '.join(get_args(How))}")
    student = build_student(config, getattr(model.visual, "preprocess_cfg", None))
    check_same_towers(model, student)
    layers = layers_to_inherit(model_modules(model), model_modules(student), how)
    _check_same_tensors(model, student, layers)
    _check_sizes(model_axes(model), model_axes(student), model_tensors(student), layers)
    check_same_function(model, student, layers)
    kept = _entries_to_keep(model, student, layers, how)
    copy_weights(model, student, layers, kept)
    return student


@torch.no_grad()
def copy_weights(
    teacher: OpenClipModel, student: OpenClipModel, layers: Layers, kept: dict[str, Tensor]
) -> None:
    """Fill every tensor of the student with the entries that it keeps of the teacher's tensor.

    Args:
        layers: the layers that are kept, see `layers_to_inherit`.
        kept: (entries,) int64 for each axis that is narrower in the student, by the student's name of the axis.
    """
    axes, originals, original_axes = model_axes(student), model_tensors(teacher), model_axes(teacher)
    for name, tensor in model_tensors(student).items():
        source = source_of(name, layers)
        value = originals[source].reshape([axis.size for axis in original_axes[source]])
        for i, (new, old) in enumerate(zip(axes[name], original_axes[source], strict=True)):
            if new.grid != old.grid:
                value = RESIZE[new.name.split(".")[-1]](value.float(), old.grid, new.grid)
            elif new.size != old.size:
                value = value.index_select(i, kept[new.name].to(value.device))
        tensor.copy_(value.reshape(tensor.shape))


def _entries_to_keep(
    teacher: OpenClipModel, student: OpenClipModel, layers: Layers, how: How
) -> dict[str, Tensor]:
    scored = how == "magnitude"
    importance = importance_of_entries(model_tensors(teacher), model_axes(teacher)) if scored else {}
    axes = model_axes(student)
    chosen = {axis for name in model_tensors(student) for axis in axes[name] if axis.kind == "chosen"}
    return {
        axis.name: chosen_entries(axis.size, importance.get(source_of(axis.name, layers))) for axis in chosen
    }


def _check_same_tensors(teacher: OpenClipModel, student: OpenClipModel, layers: Layers) -> None:
    """Refuse a student with a tensor that the teacher lacks, or without a tensor of the teacher's kept layers."""
    advice = "take the teacher's config and change sizes only (shrunk_config does)"
    originals, axes = model_tensors(teacher), model_axes(student)
    names = list(model_tensors(student))
    missing = [name for name in names if source_of(name, layers) not in originals]
    if missing:
        raise ValueError(
            f"the student's config asks for {_listed(missing)}, which the teacher lacks; {advice}"
        )
    unknown = [name for name in names if name not in axes]
    if unknown:
        raise ValueError(
            f"no rule says how to inherit {_listed(unknown)}; this kind of tower cannot be inherited"
        )
    used = {source_of(name, layers) for name in names}
    stacks = {source_of(name, layers): kept for name, kept in layers.items()}
    modules = model_modules(teacher)
    dropped = tuple(
        f"{name}.{child}."
        for name, kept in stacks.items()
        for child, _ in modules[name].named_children()
        if int(child) not in kept
    )
    unused = [name for name in originals if name not in used and not name.startswith(dropped)]
    if unused:
        raise ValueError(f"the teacher has {_listed(unused)}, which the student's config lacks; {advice}")


def _check_sizes(
    teacher: dict[str, Axes], student: dict[str, Axes], tensors: dict[str, Tensor], layers: Layers
) -> None:
    sizes: dict[str, tuple[str, int]] = {}
    for name, axes in student.items():
        if name not in tensors and name not in OUTPUTS:
            continue
        for axis in axes:
            where, size = sizes.setdefault(axis.name, (name, axis.size))
            if axis.size != size:
                raise ValueError(
                    f"the student's config contradicts itself: {axis.name} is {size} in {where} and {axis.size} in "
                    f"{name}; a tower without a projection is as wide as the embedding, so give {_setting(axis)} and "
                    "the tower's width one value"
                )
        originals = teacher[source_of(name, layers)]
        if name in tensors and len(axes) != len(originals):
            raise ValueError(
                f"{name}: the student has {len(axes)} axes, the teacher {len(originals)}; start from the teacher's "
                "config and change sizes only"
            )
        pairs = zip(axes, originals, strict=True)
        for axis, original in sorted(pairs, key=lambda pair: pair[0].kind != "fixed"):
            _check_size(name, axis, original)


def _check_size(name: str, axis: Axis, original: Axis) -> None:
    if axis.kind == "fixed" and axis.size != original.size:
        raise ValueError(
            f"{name}: {axis.name} is {axis.size} in the student's config and {original.size} in the teacher, but it "
            f"cannot change; set {_setting(axis)} as in the teacher's config"
        )
    if axis.kind == "chosen" and axis.size > original.size:
        raise ValueError(
            f"{name}: {axis.name} is {axis.size} in the student's config, wider than the teacher's {original.size}; a "
            f"student inherits at most the teacher's width, so lower {_setting(axis)}"
        )


def _setting(axis: Axis) -> str:
    return CONFIG_OF.get(axis.name.split(".")[-1].rstrip("0123456789"), "the tower's sizes")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
