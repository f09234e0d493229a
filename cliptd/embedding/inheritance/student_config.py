"""The config of a student: made from a larger model's, and built into a model."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg

from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.utils.messages import one_line

ModelConfig = dict[str, Any]
"""An open_clip model_cfg, as in open_clip_config.json["model_cfg"]."""
VISION: ModelConfig = asdict(CLIPVisionCfg())
TEXT: ModelConfig = asdict(CLIPTextCfg())


def shrunk_config(
    model_cfg: ModelConfig,
    *,
    layers: int | Sequence[int] | None = None,
    width: int | None = None,
    text_layers: int | None = None,
    text_width: int | None = None,
    embed_dim: int | None = None,
    patch_size: int | None = None,
) -> ModelConfig:
    """Return a copy of a model's config with other sizes.

    Heads keep their width, so their number follows from the tower's width. A size of None stays as it is.

    Args:
        model_cfg: an open_clip model_cfg, such as open_clip.get_model_config returns. It stays as it is.
        layers: the image tower's number of layers; for a ResNet one number for each of its four stages.
        width, text_width: the towers' widths, multiples of their head widths.
        text_layers: the text tower's number of layers.
        embed_dim: the width of the shared embedding.
        patch_size: the height and width of a patch in pixels.

    Raises:
        ValueError: a size below 1, a width that is no multiple of the head width, or a size that the tower does not
            have.

    >>> shrunk_config({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {"width": 512, "heads": 8}}, text_width=256)
    {'embed_dim': 64, 'vision_cfg': {}, 'text_cfg': {'width': 256, 'heads': 4}}
    """
    config = _checked(model_cfg)
    vision, text = config["vision_cfg"], config["text_cfg"]
    vision_changes = _given(layers=layers, width=width, patch_size=patch_size)
    text_changes = _given(layers=text_layers, width=text_width)
    for name, value in {**vision_changes, **text_changes, "embed_dim": embed_dim}.items():
        if value is not None and any(size < 1 for size in ([value] if isinstance(value, int) else value)):
            raise ValueError(f"{name} is {value}; expected at least 1")
    if vision_changes and vision.get("timm_model_name"):
        raise _keeps_its_sizes("image", vision["timm_model_name"], vision_changes)
    if text_changes and text.get("hf_model_name"):
        raise _keeps_its_sizes("text", text["hf_model_name"], text_changes)
    if layers is not None:
        vision_changes["layers"] = _layers_like({**VISION, **vision}["layers"], layers)
    if patch_size is not None and _is_resnet(vision):
        raise ValueError(f"patch_size is {patch_size}, but the image tower is a ResNet, which has no patches")
    if embed_dim is not None:
        pooled = {**VISION, **vision}
        if pooled["attentional_pool"]:
            head_width = config["embed_dim"] // pooled["attn_pooler_heads"]
            vision_changes["attn_pooler_heads"] = _heads("embed_dim", embed_dim, head_width)
        config["embed_dim"] = embed_dim
    if text_width is not None:
        old = {**TEXT, **text}
        text_changes["heads"] = _heads("text_width", text_width, old["width"] // old["heads"])
    vision |= vision_changes
    text |= text_changes
    _check_heads(config)
    return config


def share_config(
    model_cfg: ModelConfig,
    share: float,
    *,
    within: ModelConfig | None = None,
    towers: Sequence[str] = ("image", "text"),
) -> ModelConfig:
    """Return a copy of a model's config whose towers have about a share of the parameters of its matrices.

    Each transformer tower gets the number of layers and of heads that come nearest to the share, while layers and
    width shrink about alike. embed_dim stays.

    Args:
        model_cfg: the config that the share refers to.
        share: above 0 to 1.
        within: a config that sets the largest sizes, such as that of the model to inherit from.
        towers: the towers that shrink.

    Raises:
        ValueError: a tower is no open_clip transformer, or the share is not in (0, 1].

    >>> small = share_config({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {}}, 0.5)
    >>> small["vision_cfg"], small["text_cfg"]
    ({'layers': 9, 'width': 640}, {'layers': 8, 'width': 448, 'heads': 7})
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, expected above 0 and at most 1")
    whole, limit = _tower_sizes(model_cfg), _tower_sizes(within or model_cfg)
    (layers, heads), (text_layers, text_heads) = (
        _share_of(whole[tower], share, limit[tower]) if tower in towers else whole[tower]
        for tower in ("image", "text")
    )
    config = _checked(model_cfg)
    vision, text = {**VISION, **config["vision_cfg"]}, {**TEXT, **config["text_cfg"]}
    return shrunk_config(
        model_cfg,
        layers=layers,
        width=heads * vision["head_width"],
        text_layers=text_layers,
        text_width=text_heads * (text["width"] // text["heads"]),
    )


def _tower_sizes(model_cfg: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return (layers, heads) of each tower."""
    config = _checked(model_cfg)
    vision, text = {**VISION, **config["vision_cfg"]}, {**TEXT, **config["text_cfg"]}
    if vision["timm_model_name"] or text["hf_model_name"] or _is_resnet(vision):
        raise ValueError(
            "a share is possible only for open_clip's own transformers; name a student of your own instead (if it has "
            "the same widths, inherit_weights.py --student lets it inherit)"
        )
    return {
        "image": (vision["layers"], vision["width"] // vision["head_width"]),
        "text": (text["layers"], text["heads"]),
    }


def _share_of(whole: tuple[int, int], share: float, limit: tuple[int, int]) -> tuple[int, int]:
    """Return the (layers, heads) nearest to a share; matrices grow with layers · width²."""

    def distance(found: tuple[int, int]) -> float:
        deep, wide = found[0] / whole[0], found[1] / whole[1]
        return abs(deep * wide**2 / share - 1) + 0.25 * abs(deep - wide)

    layers, heads = (range(1, size + 1) for size in limit)
    return min(itertools.product(layers, heads), key=distance)


def build_student(config: ModelConfig, preprocess: dict[str, Any] | None = None) -> OpenClipModel:
    """Return an open_clip model of `config` with random weights on the CPU.

    Args:
        config: an open_clip model_cfg. It stays as it is.
        preprocess: the preprocess_cfg; its size becomes the model's. None: open_clip's default.

    Raises:
        ValueError: the config is not a model_cfg, or open_clip cannot build it.
    """
    config = _checked(config)
    _check_heads(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "multimodal_cfg" in config:
        raise ValueError(
            "the config is a CoCa's (it has multimodal_cfg); only CLIP and CustomTextCLIP can inherit or be students"
        )
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    if text.get("hf_model_name"):
        text["hf_model_pretrained"] = False
    own_text = config.pop("custom_text", False) or text.get("hf_model_name")
    model_class = open_clip.CustomTextCLIP if own_text else open_clip.CLIP
    try:
        with torch.random.fork_rng(devices=[]):
            student = model_class(**config)
    except Exception as error:  # open_clip raises errors of many kinds
        raise ValueError(
            f"open_clip cannot build the student's config: {type(error).__name__} {one_line(error)}"
        ) from error
    size = {"size": student.visual.image_size}
    set_model_preprocess_cfg(student, asdict(PreprocessCfg()) | (preprocess or {}) | size)
    return student


def _given(**sizes: int | Sequence[int] | None) -> dict[str, Any]:
    return {name: value for name, value in sizes.items() if value is not None}


def _checked(config: ModelConfig) -> ModelConfig:
    missing = [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in config]
    if missing:
        hint = "give its model_cfg" if "model_cfg" in config else "give an open_clip model_cfg"
        raise ValueError(
            f"the config has {', '.join(config) or 'nothing'} but no {', '.join(missing)}; {hint}"
        )
    return copy.deepcopy(config)


def _check_heads(config: ModelConfig) -> None:
    vision, text = {**VISION, **config["vision_cfg"]}, {**TEXT, **config["text_cfg"]}
    if not vision["timm_model_name"]:
        channels = vision["width"] * 32 if _is_resnet(vision) else vision["width"]
        _heads("the image tower's width", channels, vision["head_width"])
    if not text["hf_model_name"] and text["width"] % text["heads"]:
        raise ValueError(
            f"the text tower's width {text['width']} does not divide into its {text['heads']} heads; change one of them"
        )


def _heads(name: str, width: int, head_width: int) -> int:
    if width % head_width:
        near = max(width // head_width, 1) * head_width
        raise ValueError(
            f"{name}: {width} channels do not divide into heads of {head_width}, which keep their width; take {near} "
            f"or {near + head_width}"
        )
    return width // head_width


def _layers_like(old: int | Sequence[int], asked: int | Sequence[int]) -> int | list[int]:
    if isinstance(old, int) and isinstance(asked, int):
        return asked
    if not isinstance(old, int) and not isinstance(asked, int) and len(old) == len(asked):
        return list(asked)
    expected = "one number" if isinstance(old, int) else f"{len(old)} numbers, one for each stage"
    raise ValueError(f"layers is {asked}; this image tower's are {old}, so expected {expected}")


def _is_resnet(vision: ModelConfig) -> bool:
    return isinstance(vision.get("layers", VISION["layers"]), list | tuple)


def _keeps_its_sizes(tower: str, name: str, changes: dict[str, Any]) -> ValueError:
    asked = ", ".join(f"{key}={value}" for key, value in changes.items())
    return ValueError(
        f"the {tower} tower is {name}, which has one size only, so {asked} has no effect; remove it, or name a smaller "
        "model of the same widths in a config of your own"
    )
