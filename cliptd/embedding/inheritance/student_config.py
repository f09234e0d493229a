"""The config of a student: made smaller than its teacher's, and built."""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import asdict

import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from torch import nn

from cliptd.teachers.teacher import one_line

VISION, TEXT = asdict(CLIPVisionCfg()), asdict(CLIPTextCfg())


def shrunk_config(
    model_cfg: dict,
    *,
    layers: int | Sequence[int] | None = None,
    width: int | None = None,
    text_layers: int | None = None,
    text_width: int | None = None,
    embed_dim: int | None = None,
    patch_size: int | None = None,
) -> dict:
    """A copy of a model's config with other sizes; heads keep their width, so their number follows the width's.

    Args:
        model_cfg: as in open_clip_config.json["model_cfg"] or from open_clip.get_model_config; it stays as it is.
        layers: of the image tower; of a ResNet one for each of its four stages.
        width, text_width: of the towers, multiples of their head width.
        embed_dim: of the embedding that both towers share.
        patch_size: in pixels.

    Raises:
        ValueError: a size below 1, a width that is no multiple of the head width, or a size that the tower does not
            have.

    >>> shrunk_config({"embed_dim": 64, "vision_cfg": {}, "text_cfg": {"width": 512, "heads": 8}}, text_width=256)
    {'embed_dim': 64, 'vision_cfg': {}, 'text_cfg': {'width': 256, 'heads': 4}}
    """
    config = _checked(model_cfg)
    vision, text = config["vision_cfg"], config["text_cfg"]
    asked = {"layers": layers, "width": width, "patch_size": patch_size}
    vision_changes = {name: value for name, value in asked.items() if value is not None}
    asked = {"text_layers": text_layers, "text_width": text_width}
    text_changes = {name.removeprefix("text_"): value for name, value in asked.items() if value is not None}
    for name, value in {**vision_changes, **text_changes, "embed_dim": embed_dim}.items():
        if value is not None and any(size < 1 for size in ([value] if isinstance(value, int) else value)):
            raise ValueError(f"{name} is {value}; expected at least 1")
    if vision_changes and vision.get("timm_model_name"):
        raise _keeps_its_sizes("image", vision["timm_model_name"], vision_changes)
    if text_changes and text.get("hf_model_name"):
        raise _keeps_its_sizes("text", text["hf_model_name"], text_changes)
    if "layers" in vision_changes:
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
    model_cfg: dict,
    share: float,
    *,
    within: dict | None = None,
    towers: Sequence[str] = ("image", "text"),
) -> dict:
    """A copy of a model's config whose towers have about a share of the parameters of its matrices.

    Of each transformer tower's possible numbers of layers and of heads those are taken that come nearest to the share,
    layers and width shrinking about alike; embed_dim stays.

    Args:
        within: a config whose towers are at least as large, such as the one that is inherited from next.
        towers: which ones shrink.

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


def _tower_sizes(model_cfg: dict) -> dict[str, tuple[int, int]]:
    """Layers and heads of both towers."""
    config = _checked(model_cfg)
    vision, text = {**VISION, **config["vision_cfg"]}, {**TEXT, **config["text_cfg"]}
    if vision["timm_model_name"] or text["hf_model_name"] or _is_resnet(vision):
        raise ValueError(
            "shares are for open_clip's own transformers; give a student of your own (of the same widths, "
            "inherit_weights.py --student lets it inherit)"
        )
    return {
        "image": (vision["layers"], vision["width"] // vision["head_width"]),
        "text": (text["layers"], text["heads"]),
    }


def _share_of(whole: tuple[int, int], share: float, limit: tuple[int, int]) -> tuple[int, int]:
    """Matrices grow with the layers and with the square of the width."""

    def distance(found: tuple[int, int]) -> float:
        deep, wide = found[0] / whole[0], found[1] / whole[1]
        return abs(deep * wide**2 / share - 1) + 0.25 * abs(deep - wide)

    layers, heads = (range(1, size + 1) for size in limit)
    return min(itertools.product(layers, heads), key=distance)


def build_student(config: dict, preprocess: dict | None = None) -> nn.Module:
    """An open_clip model of `config` with random weights on the CPU.

    preprocess: its preprocess_cfg, of another size perhaps; None: open_clip's own.

    Raises:
        ValueError: it is not a model_cfg, or open_clip cannot build it.
    """
    config = _checked(config)
    _check_heads(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if "multimodal_cfg" in config:
        raise ValueError("the config is a CoCa's (multimodal_cfg); only CLIP and CustomTextCLIP inherit")
    if vision.get("timm_model_name"):
        vision["timm_model_pretrained"] = False
    if text.get("hf_model_name"):
        text["hf_model_pretrained"] = False
    own_text = config.pop("custom_text", False) or text.get("hf_model_name")
    model_class = open_clip.CustomTextCLIP if own_text else open_clip.CLIP
    try:
        with torch.random.fork_rng(devices=[]):
            student = model_class(**config)
    except Exception as error:  # open_clip raises whatever its parts do
        raise ValueError(
            f"open_clip cannot build the student's config: {type(error).__name__} {one_line(error)}"
        ) from error
    size = {"size": student.visual.image_size}
    set_model_preprocess_cfg(student, asdict(PreprocessCfg()) | (preprocess or {}) | size)
    return student


def _checked(config: dict) -> dict:
    missing = [name for name in ("embed_dim", "vision_cfg", "text_cfg") if name not in config]
    if missing:
        hint = "give its model_cfg" if "model_cfg" in config else "give an open_clip model_cfg"
        raise ValueError(
            f"the config has {', '.join(config) or 'nothing'} but no {', '.join(missing)}; {hint}"
        )
    return copy.deepcopy(config)


def _check_heads(config: dict) -> None:
    vision, text = {**VISION, **config["vision_cfg"]}, {**TEXT, **config["text_cfg"]}
    if not vision["timm_model_name"]:
        channels = vision["width"] * 32 if _is_resnet(vision) else vision["width"]
        _heads("the image tower's width", channels, vision["head_width"])
    if not text["hf_model_name"] and text["width"] % text["heads"]:
        raise ValueError(
            f"the text tower's width {text['width']} does not divide into its {text['heads']} heads; change either"
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
    stages, found = (0 if isinstance(size, int) else len(size) for size in (old, asked))
    if stages != found:
        expected = f"{stages} numbers, one for each stage" if stages else "one number"
        raise ValueError(f"layers is {asked}; this image tower's are {old}, so expected {expected}")
    return list(asked) if stages else asked


def _is_resnet(vision: dict) -> bool:
    return isinstance(vision.get("layers", VISION["layers"]), list | tuple)


def _keeps_its_sizes(tower: str, name: str, changes: dict) -> ValueError:
    asked = ", ".join(f"{key}={value}" for key, value in changes.items())
    return ValueError(
        f"the {tower} tower is {name}, which has one size only, and {asked} was asked for; leave it out, or name a "
        "smaller model of the same widths in a config of your own"
    )
