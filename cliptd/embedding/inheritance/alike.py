"""Checks that a student computes what its teacher does: with other settings the same weights mean something else."""

from typing import Any

from torch import nn

from cliptd.embedding.inheritance.layers import Layers, source_of
from cliptd.embedding.inheritance.towers import (
    OpenClipModel,
    TextTower,
    model_modules,
    text_tower,
    tower_types,
)

OWN_SETTINGS = ("eps", "approximate", "pool_type", "final_ln_after_pool", "attn_pool_type")
"""Settings of a module of open_clip's own towers that the weights depend on."""
COPIED_SETTINGS = (
    "eps", "approximate", "num_heads", "num_attention_heads", "stride", "padding", "dilation", "groups", "shift_size",
    "window_size", "global_pool",
)  # fmt: skip
"""The same for towers of timm and transformers, which are copied whole."""
TRAINING_ONLY = ("Identity", "Dropout", "DropPath", "PatchDropout", None)
"""Kinds of modules that may differ, because they do nothing in evaluation."""


def check_same_towers(teacher: OpenClipModel, student: OpenClipModel) -> None:
    """Raise ValueError if the student's config asks for another kind of tower."""
    found, expected = tower_types(student), tower_types(teacher)
    for tower in found:
        if found[tower] != expected[tower]:
            raise ValueError(
                f"the student's config asks for a {found[tower]} as {tower} tower, the teacher's is a "
                f"{expected[tower]}; weights are inherited within one architecture, so start from the teacher's config"
            )


def check_same_function(teacher: OpenClipModel, student: OpenClipModel, layers: Layers) -> None:
    """Raise ValueError if activations, pooling, masks or similar settings differ. Dropout may differ."""
    expected = _settings(teacher)
    for name, value in _settings(student).items():
        original = expected.get(source_of(name, layers))
        if value != original and not (value in TRAINING_ONLY and original in TRAINING_ONLY):
            raise ValueError(
                f"{name}: the student's config asks for {value}, the teacher has {original}; the weights were trained "
                "with the teacher's, so copy this setting from the teacher's config"
            )


def _settings(model: OpenClipModel) -> dict[str, Any]:
    kinds = tower_types(model)
    copied = {"visual": kinds["image"] == "TimmModel", "text": kinds["text"] == "HFTextEncoder"}
    found: dict[str, Any] = {}
    for name, module in model_modules(model).items():
        if name == "text":
            continue
        kind = "LayerNorm" if isinstance(module, nn.LayerNorm) else type(module).__name__
        found[name] = kind
        if kind in TRAINING_ONLY:
            continue
        for setting in COPIED_SETTINGS if copied[name.split(".")[0]] else OWN_SETTINGS:
            found[f"{name}.{setting}"] = getattr(module, setting, None)
    if not copied["text"]:
        found |= _text_settings(text_tower(model))
    return found


def _text_settings(text: TextTower) -> dict[str, Any]:
    pool = text.pool_type if hasattr(text, "pool_type") else text.text_pool_type
    eos = text.eos_id if hasattr(text, "eos_id") else text.text_eos_id
    return {
        "text.pool_type": pool,
        "text.eos_id": eos if pool == "eos" else None,
        "text.causal mask": text.attn_mask is not None,
    }
