"""Load frozen teachers by name and tag, or from a folder."""

import os
from pathlib import Path
from typing import Any, get_args

import open_clip
import torch

from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.from_open_clip import HUB, load_by_name, load_folder, load_from_hub
from cliptd.teachers.precision import Precision
from cliptd.teachers.teacher import ImageError, Teacher

__all__ = ["ImageError", "Teacher", "TeacherEnsemble", "load_teacher"]


def load_teacher(
    name: str,
    pretrained: str | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    batch_size: int = 256,
) -> Teacher | TeacherEnsemble:
    """Load a frozen teacher.

    Args:
        name: one of these, or several joined by "," for an ensemble:
            - the name of an open_clip model, such as "ViT-L-14";
            - the path of a local open_clip folder (open_clip_config.json and open_clip_model.safetensors);
            - "hf-hub:" and the id of such a folder on the hub;
            - "hf:" and the id or the folder of a transformers CLIP or SigLIP.
        pretrained: the pretrained tag or a checkpoint file of an open_clip name. For an ensemble, one for all members,
            or one each joined by "," and empty for a member that needs none.
        device: where the weights are and the embeddings are computed.
        precision: the type of the weights and of the computation. Embeddings are float32 in any case but differ in
            their last bits, so another precision is another teacher to a store.
        batch_size: images or texts per forward.

    Raises:
        ValueError: the name or tag is unknown (the message names the nearest), or the weights do not fit their config.
        FileNotFoundError: the folder is missing, or the checkpoint is neither on this machine nor reachable. The
            message says how to get it.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(get_args(Precision))}")
    options = {"device": device, "precision": precision, "batch_size": batch_size}
    if "," in name and not Path(name).exists():
        names = [part.strip() for part in name.split(",")]
        tags = [tag.strip() or None for tag in (pretrained or "").split(",")]
        tags = [tags[0] if _needs_tag(part) else None for part in names] if len(tags) == 1 else tags
        if len(tags) != len(names):
            raise ValueError(
                f"pretrained={pretrained!r} names {len(tags)} checkpoints for the {len(names)} teachers of "
                f"{name!r}; give one for all, or one each, empty where a teacher needs none"
            )
        members = zip(names, tags, strict=True)
        return TeacherEnsemble([_load_one(part, tag, options) for part, tag in members])
    return _load_one(name, pretrained, options)


def _load_one(name: str, pretrained: str | None, options: dict[str, Any]) -> Teacher:
    if not _needs_tag(name) and pretrained:
        raise ValueError(
            f"pretrained={pretrained!r} has no meaning for {name!r}, which holds its own weights; "
            "remove pretrained"
        )
    if name.startswith(HUB):
        return load_from_hub(name, **options)
    if name.startswith("hf:"):
        from cliptd.teachers.from_transformers import load_transformers

        return load_transformers(name, **options)
    if _is_path(name):
        return load_folder(Path(name.removeprefix("local-dir:")).expanduser(), **options)
    return load_by_name(name, pretrained, **options)


def _is_path(name: str) -> bool:
    if name.startswith("local-dir:") or Path(name).expanduser().is_dir():
        return True
    looks_like_one = os.sep in name or name.startswith((".", "~"))
    return looks_like_one and name.replace("/", "-") not in open_clip.list_models()


def _needs_tag(name: str) -> bool:
    return not name.startswith(("hf:", HUB)) and not _is_path(name)
