"""The places where six architectures of transformers keep their fused text and image token states.

A preset is three plain functions: which modules to watch, how to read the states from their last calls, and
how wide the states are. They take the base model, which may be anywhere inside the student (a task head, a
peft model, a multiple-choice wrapper). `tests/adapter/test_student_states.py` checks each preset on a tiny model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class Call:
    """One forward call of a watched module: its arguments by name, and its output."""

    arguments: dict[str, Any] = field(default_factory=dict)
    output: Any = None


@dataclass
class TokenStates:
    """Token states of one forward, before pooling; N texts of T tokens.

    Shapes: text (N, T, d), text_mask (N, T) or None, image (N, P, d_v) or None, image_mask (N, P) or None,
    image_cls (N, d_v) where the model has one. Masks are non-zero on real tokens.
    """

    text: Tensor
    text_mask: Tensor | None = None
    image: Tensor | None = None
    image_mask: Tensor | None = None
    image_cls: Tensor | None = None


@dataclass(frozen=True)
class Preset:
    """The way to read one architecture.

    Args:
        classes: class names of the base model. A subclass counts too.
        read: makes token states of the last call of each watched module.
        widths: gives (text width, image width) of the base model.
        watch: gives the modules of the base model to watch, by the names that `read` uses.
    """

    classes: tuple[str, ...]
    read: Callable[[dict[str, Call]], TokenStates]
    widths: Callable[[Any], tuple[int, int]]
    watch: Callable[[Any], dict[str, nn.Module]] = lambda base: {"base": base}

    def matches(self, module: nn.Module) -> bool:
        """Return whether `module` is of one of the classes. Names are compared, so no architecture is imported."""
        return any(cls.__name__ in self.classes for cls in type(module).__mro__)


def pick(output: Any, name: str, index: int) -> Any:
    """Return a field of a ModelOutput, or of the tuple that `return_dict=False` gives."""
    return output[index] if isinstance(output, tuple) else getattr(output, name)


def _text_length(arguments: dict[str, Any]) -> int:
    """Return the number of text tokens that the base model was given."""
    ids = arguments.get("input_ids")
    return ids.shape[1] if ids is not None else arguments["inputs_embeds"].shape[1]


def _read_vilt(calls: dict[str, Call]) -> TokenStates:
    # The sequence is text, image CLS, patches. ViLT chooses and orders the patches anew at every forward. The mask for
    # this order is in the output of its embeddings only.
    states = pick(calls["base"].output, "last_hidden_state", 0)
    mask = calls["embeddings"].output[1]
    length = _text_length(calls["base"].arguments)
    return TokenStates(
        text=states[:, :length],
        text_mask=mask[:, :length],
        image=states[:, length + 1 :],
        image_mask=mask[:, length + 1 :],
        image_cls=states[:, length],
    )


def _read_visual_bert(calls: dict[str, Call]) -> TokenStates:
    arguments = calls["base"].arguments
    states = pick(calls["base"].output, "last_hidden_state", 0)
    length = _text_length(arguments)
    return TokenStates(
        text=states[:, :length],
        text_mask=arguments.get("attention_mask"),
        image=states[:, length:] if states.shape[1] > length else None,
        image_mask=arguments.get("visual_attention_mask"),
    )


def _read_lxmert(calls: dict[str, Call]) -> TokenStates:
    arguments, output = calls["base"].arguments, calls["base"].output
    return TokenStates(
        text=pick(output, "language_output", 0),
        text_mask=arguments.get("attention_mask"),
        image=pick(output, "vision_output", 1),
        image_mask=arguments.get("visual_attention_mask"),
    )


def _read_bridgetower(calls: dict[str, Call]) -> TokenStates:
    arguments, output = calls["base"].arguments, calls["base"].output
    image = pick(output, "image_features", 1)
    return TokenStates(
        text=pick(output, "text_features", 0),
        text_mask=arguments.get("attention_mask"),
        image=image[:, 1:],
        image_cls=image[:, 0],
    )


def _read_flava(calls: dict[str, Call]) -> TokenStates:
    # The multimodal encoder's sequence is its own CLS (if any), image CLS, patches, text.
    arguments, output = calls["base"].arguments, calls["base"].output
    fused = pick(output, "multimodal_embeddings", 4)
    if fused is None:
        raise ValueError(
            "FLAVA ran without its multimodal encoder (no pixel_values, no input_ids, or "
            "skip_multimodal_encoder=True), and distillation reads the fused states; pass both an image and "
            "a text"
        )
    length = _text_length(arguments)
    patches = pick(output, "image_embeddings", 0).shape[1] - 1
    image = fused[:, -length - patches - 1 : -length]
    return TokenStates(
        text=fused[:, -length:],
        text_mask=arguments.get("attention_mask"),
        image=image[:, 1:],
        image_cls=image[:, 0],
    )


def _read_blip(calls: dict[str, Call]) -> TokenStates:
    # The text encoder attends to the image; the image tower never sees the text.
    image = pick(calls["image"].output, "last_hidden_state", 0)
    return TokenStates(
        text=pick(calls["text"].output, "last_hidden_state", 0),
        text_mask=calls["text"].arguments.get("attention_mask"),
        image=image[:, 1:],
        image_cls=image[:, 0],
    )


def _blip_modules(base: Any) -> dict[str, nn.Module]:
    text = base.text_encoder if hasattr(base, "text_encoder") else base.text_model
    return {"text": text, "image": base.vision_model}


def _hidden_size(base: Any) -> tuple[int, int]:
    return base.config.hidden_size, base.config.hidden_size


def _multimodal_hidden_size(base: Any) -> tuple[int, int]:
    size = base.config.multimodal_config.hidden_size
    return size, size


PRESETS: dict[str, Preset] = {
    "vilt": Preset(
        ("ViltModel",), _read_vilt, _hidden_size, lambda base: {"base": base, "embeddings": base.embeddings}
    ),
    "visual_bert": Preset(("VisualBertModel",), _read_visual_bert, _hidden_size),
    "lxmert": Preset(("LxmertModel",), _read_lxmert, _hidden_size),
    "bridgetower": Preset(("BridgeTowerModel",), _read_bridgetower, _hidden_size),
    "flava": Preset(("FlavaModel",), _read_flava, _multimodal_hidden_size),
    "blip": Preset(
        ("BlipModel", "BlipForQuestionAnswering", "BlipForImageTextRetrieval"),
        _read_blip,
        lambda base: (base.config.text_config.hidden_size, base.config.vision_config.hidden_size),
        _blip_modules,
    ),
}


def find_base(student: nn.Module) -> tuple[str, nn.Module, Preset] | None:
    """Return (path, base model, preset) of the outermost module that a preset knows, or None."""
    for path, module in student.named_modules():
        for preset in PRESETS.values():
            if preset.matches(module):
                return path, module, preset
    return None


def masked_mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the real tokens, (N, d). A row with no real token gives zeros.

    Args:
        states: (N, T, d). Padding may hold anything, NaN included.
        mask: (N, T), not zero for real tokens. None: all tokens are real.

    >>> import torch
    >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    if mask is None:
        return states.mean(1)
    real = (mask != 0).unsqueeze(-1)
    return states.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
