"""The place of a student's text and image states: module paths of any nn.Module, or a preset.

`presets.py` holds the presets, `capture.py` reads the states during a forward.
"""

import difflib
from dataclasses import dataclass

from torch import nn

from cliptd.adapter.presets import PRESETS

__all__ = ["PRESETS", "StudentStates", "find_module", "output_width"]


@dataclass(frozen=True)
class StudentStates:
    """The place of a student's token states.

    Args:
        text: path of the module whose output holds the text token states, (N, T, d) or (B, C, T, d). None: the preset
            of the student's architecture (vilt, visual_bert, lxmert, bridgetower, flava, blip) knows. `text_cls` and
            `image_pooling` may change a preset.
        image: path of the module whose output holds the image states: tokens (N, P, d_v), a feature map
            (N, d_v, H, W), or vectors (N, d_v). None: the student has none, or the preset knows.
        text_slice: part of the token dimension that is text, as a slice or (start, stop).
        image_slice: part of the token dimension that is image, as a slice or (start, stop).
        text_cls: the state of a whole text. A number: the token at this position. "mean": the mean over the real
            tokens. A path: the output of another module, (N, d), or the first token of (N, T, d).
        image_pooling: the state of a whole image. "mean": the mean over the real image tokens. "cls": the class token,
            which is the first token at a path, or the one that the preset knows.
        text_output: part of the text module's output: an index of a tuple, or a name of a dict or ModelOutput. None:
            the tensor itself, or the first tensor of the output.
        image_output: part of the image module's output, as text_output.
        text_mask: name of the argument of the student's forward that is not zero on real text tokens, (N, T) or
            (B, C, T). If a call has no such argument, all tokens are real.
        image_mask: name of the same argument for image tokens. None: all are real.
        text_width: d, needed only if the module does not tell it. An error says so.
        image_width: d_v, needed only if the module does not tell it.

    >>> StudentStates(text="encoder.text", image="encoder.vision", text_cls="mean").text_cls
    'mean'
    """

    text: str | None = None
    image: str | None = None
    text_slice: slice | tuple[int | None, int | None] | None = None
    image_slice: slice | tuple[int | None, int | None] | None = None
    text_cls: int | str | None = None
    image_pooling: str = "mean"
    text_output: int | str | None = None
    image_output: int | str | None = None
    text_mask: str | None = "attention_mask"
    image_mask: str | None = None
    text_width: int | None = None
    image_width: int | None = None

    def __post_init__(self) -> None:
        if self.image_pooling not in ("mean", "cls"):
            raise ValueError(
                f"StudentStates: image_pooling is {self.image_pooling!r}; choose 'mean' or 'cls'"
            )
        if self.text is None and self.image is not None:
            raise ValueError(
                f"StudentStates: image={self.image!r} is given without text; give both paths, or neither to "
                "use the preset of the architecture"
            )


def find_module(student: nn.Module, path: str, role: str = "text") -> nn.Module:
    """Return the module of `student` at a dotted path.

    Raises:
        ValueError: there is no such module; the message names those that exist, the nearest first.
    """
    modules = dict(student.named_modules())
    if path in modules and path:
        return modules[path]
    names = [name for name in modules if name]
    near = difflib.get_close_matches(path, names, n=5, cutoff=0.4)
    others = [name for name in names if name not in near]
    shown = near + others[: 40 - len(near)]
    more = f", … and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    raise ValueError(
        f"StudentStates: {type(student).__name__} has no module {path!r} ({role}); it has, nearest first: "
        f"{', '.join(shown) or 'none at all'}{more}"
    )


def output_width(module: nn.Module) -> int | None:
    """Return the width of a module's states (channels of a convolution), or None if the module does not tell."""
    match module:
        case nn.Linear():
            return module.out_features
        case nn.LayerNorm() | nn.RMSNorm():
            return module.normalized_shape[-1]
        case nn.Embedding() | nn.EmbeddingBag():
            return module.embedding_dim
        case nn.RNNBase():
            return (module.proj_size or module.hidden_size) * (2 if module.bidirectional else 1)
        case nn.Conv1d() | nn.Conv2d():
            return module.out_channels
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            return module.num_features
        case nn.GroupNorm():
            return module.num_channels
        case nn.TransformerEncoderLayer() | nn.TransformerDecoderLayer():
            return output_width(module.linear2)
        case nn.TransformerEncoder() | nn.TransformerDecoder():
            return output_width(module.layers[-1])
        case nn.MultiheadAttention():
            return module.embed_dim
        case nn.Sequential():
            keeps = (
                nn.ReLU,
                nn.GELU,
                nn.SiLU,
                nn.Tanh,
                nn.Dropout,
                nn.Dropout2d,
                nn.MaxPool2d,
                nn.AvgPool2d,
                nn.Identity,
            )
            last = next((child for child in reversed(module) if not isinstance(child, keeps)), None)
            return None if last is None else output_width(last)
    for name in ("num_features", "hidden_size"):  # timm's name, then transformers'
        owner = module if name == "num_features" else getattr(module, "config", None)
        if isinstance(getattr(owner, name, None), int):
            return getattr(owner, name)
    return None
