"""Read token states at the module paths of a `StudentStates`, from the outputs of those modules.

`presets.py` does the same for the architectures it knows.
"""

from typing import Any

from torch import Tensor

from cliptd.adapter.presets import Call, TokenStates
from cliptd.adapter.student_states import StudentStates


def read_paths(states: StudentStates, calls: dict[str, Call], image_width: int | None) -> TokenStates:
    """Return the states of a forward: text (N, T, d), image (N, P, d_v).

    Args:
        calls: the last calls of the module "text", of the whole "student" and, if `states` has a path for it, of the
            module "image".
        image_width: d_v, the size of the image states' last dimension (the first dimension of a feature map).

    Raises:
        ValueError: an output has no such part, no floating-point tensor or another shape, or a mask does not fit.
    """
    assert states.text is not None  # a preset reads the states of a student without paths

    def argument(name: str | None) -> Tensor | None:
        return None if name is None else calls["student"].arguments.get(name)

    text = tensor_of(calls["text"].output, states.text_output, states.text)
    if text.ndim == 4:
        text = text.flatten(0, 1)
    if text.ndim != 3:
        raise ValueError(
            f"text states at {states.text!r} have shape {tuple(text.shape)}; expected (texts, tokens, "
            "width) or (batch, candidates, tokens, width)"
        )
    text, text_mask = _cut(text, argument(states.text_mask), states.text_slice, states.text_mask)
    tokens = TokenStates(text=text, text_mask=text_mask)
    if states.image is not None:
        image = _image_tokens(
            tensor_of(calls["image"].output, states.image_output, states.image), image_width, states.image
        )
        tokens.image, tokens.image_mask = _cut(
            image, argument(states.image_mask), states.image_slice, states.image_mask
        )
        tokens.image_cls = tokens.image[:, 0]
    return tokens


def tensor_of(output: Any, which: int | str | None, path: str) -> Tensor:
    """Return the tensor that `which` picks from a module's output. None picks the first tensor."""
    found = output
    if which is not None:
        try:
            found = (
                getattr(output, which) if isinstance(which, str) and hasattr(output, which) else output[which]
            )
        except (LookupError, TypeError) as error:
            names = (
                list(output)
                if isinstance(output, dict)
                else f"{len(output)} items"
                if isinstance(output, tuple)
                else ""
            )
            raise ValueError(
                f"StudentStates: the output of {path!r} ({type(output).__name__} {names}) has no {which!r}"
            ) from error
    elif not isinstance(output, Tensor):
        parts = (
            output.values()
            if isinstance(output, dict)
            else output
            if isinstance(output, (tuple, list))
            else ()
        )
        found = next((part for part in parts if isinstance(part, Tensor)), None)
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise ValueError(
            f"StudentStates: the output of {path!r} is {type(found).__name__}, expected a floating-point "
            "tensor; pick it with text_output= or image_output= (an index or a name)"
        )
    return found


def _image_tokens(image: Tensor, width: int | None, path: str) -> Tensor:
    """Turn image states of any accepted shape into tokens (N, P, width)."""
    shape = tuple(image.shape)
    is_map = image.ndim >= 4 and image.shape[-3] == width
    if image.ndim == 2:
        image = image.unsqueeze(1)
    elif is_map:  # (…, width, H, W)
        image = image.flatten(0, -4).flatten(2).transpose(1, 2)
    elif image.ndim == 4:  # (B, C, P, width)
        image = image.flatten(0, 1)
    if image.ndim != 3 or image.shape[-1] != width:
        raise ValueError(
            f"image states at {path!r} have shape {shape}; expected (images, {width}), (images, tokens, "
            f"{width}) or (images, {width}, height, width)"
        )
    return image


def _cut(
    states: Tensor, mask: Tensor | None, part: slice | tuple | None, name: str | None
) -> tuple[Tensor, Tensor | None]:
    """Slice the tokens of states (N, T, d) and of their mask, which may have the slice's size already."""
    part = slice(*part) if isinstance(part, tuple) else part or slice(None)
    whole = states.shape[1]
    states = states[:, part]
    if mask is None:
        return states, None
    mask = mask.reshape(-1, mask.shape[-1])
    if mask.shape[1] == whole != states.shape[1]:
        mask = mask[:, part]
    if mask.shape != states.shape[:2]:
        raise ValueError(
            f"StudentStates: the mask {name!r} has shape {tuple(mask.shape)}, but the token states are "
            f"{tuple(states.shape[:2])}; name the argument that fits with text_mask= or image_mask=, or None"
        )
    return states, mask
