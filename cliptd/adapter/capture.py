"""Capture a student's token states during its own forward, by hooks that change nothing."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cliptd.adapter.module_paths import read_paths, tensor_of
from cliptd.adapter.presets import PRESETS, Call, TokenStates, find_base, masked_mean
from cliptd.adapter.student_states import StudentStates, find_module, output_width


@dataclass
class CapturedStates:
    """The states of one forward of the student, pooled.

    Row b·C + c of the N = B·C rows is candidate c of instance b.

    Shapes: text_states (N, T, d), text_mask (N, T) bool, text_cls (N, d), image_state (N or B, d_v) or None,
    image_states (N, P, d_v) or None, image_mask (N, P) or None.
    """

    text_states: Tensor
    text_mask: Tensor
    text_cls: Tensor
    image_state: Tensor | None = None
    image_states: Tensor | None = None
    image_mask: Tensor | None = None


class _Watch:
    """A forward hook that keeps the last call of one module while `capture.active`."""

    def __init__(self, capture: "StateCapture", name: str, module: nn.Module) -> None:
        self.capture, self.name = capture, name
        self.parameters = list(inspect.signature(module.forward).parameters)

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if self.capture.active:
            named = {self.parameters[i]: args[i] for i in range(min(len(args), len(self.parameters)))}
            self.capture.calls[self.name] = Call({**named, **kwargs}, output)


class StateCapture:
    """A watch on a student by forward hooks, which leave its arguments and outputs as they are.

    It sees only calls inside a forward of the student, not the recomputation of gradient checkpointing. If a module
    runs several times in a forward, the last call counts.

    Args:
        student: any nn.Module.
        states: where its states are. None: the preset of its architecture knows.

    Attributes: text_width and image_width (None without image states), known before any forward.

    Raises:
        ValueError: no preset knows the student, a path names no module, or a width is not known.
    """

    def __init__(self, student: nn.Module, states: StudentStates | None = None) -> None:
        self.states = states or StudentStates()
        self.active = False
        self.calls: dict[str, Call] = {}
        self.text_width: int
        self.image_width: int | None = None
        self.paths: dict[str, str] = {}
        if self.states.text is None:
            watched = self._watch_preset(student)
        else:
            watched = self._watch_paths(student, self.states.text)
        self._handles = [student.register_forward_pre_hook(self._begin)]
        for name, module in watched.items():
            hook = _Watch(self, name, module)
            self._handles.append(module.register_forward_hook(hook, with_kwargs=True))
        self._handles.append(
            student.register_forward_hook(_Watch(self, "student", student), with_kwargs=True)
        )
        self._handles.append(student.register_forward_hook(self._end))

    def _watch_preset(self, student: nn.Module) -> dict[str, nn.Module]:
        found = find_base(student)
        if found is None:
            raise ValueError(
                f"{type(student).__name__} has no preset (presets: {', '.join(PRESETS)}); say where its "
                "token states are: "
                'cliptd.wrap(student, …, states=cliptd.StudentStates(text="path.to.text_encoder", '
                'image="path.to.vision"))'
            )
        path, base, preset = found
        self._read: Callable[[dict[str, Call]], TokenStates] = preset.read
        self.text_width, self.image_width = preset.widths(base)
        watched = preset.watch(base)
        self.paths = dict.fromkeys(watched, path)
        changeable = ("text_cls", "image_pooling", "text_mask")  # the mask has a name by default
        given = [
            name for name, value in vars(self.states).items() if value is not None and name not in changeable
        ]
        if given:
            raise ValueError(
                f"StudentStates: {', '.join(given)} without text has no effect on a {type(base).__name__}, because "
                f"its preset knows the paths; give text too, or leave out {', '.join(given)}"
            )
        if isinstance(self.states.text_cls, str) and self.states.text_cls != "mean":
            self.paths["text_cls"] = self.states.text_cls
            watched = {**watched, "text_cls": find_module(student, self.states.text_cls, "text_cls")}
        return watched

    def _watch_paths(self, student: nn.Module, text: str) -> dict[str, nn.Module]:
        states = self.states
        self.paths = {"text": text}
        if states.image is not None:
            self.paths["image"] = states.image
        if isinstance(states.text_cls, str) and states.text_cls != "mean":
            self.paths["text_cls"] = states.text_cls
        watched = {name: find_module(student, path, name) for name, path in self.paths.items()}
        self.text_width = states.text_width or self._width("text", watched["text"])
        if states.image is not None:
            self.image_width = states.image_width or self._width("image", watched["image"])
        self._read = partial(read_paths, states, image_width=self.image_width)
        return watched

    def _width(self, name: str, module: nn.Module) -> int:
        width = output_width(module)
        if width is None:
            raise ValueError(
                f"StudentStates: the width of {name}={self.paths[name]!r} ({type(module).__name__}) is not "
                f"known before a forward; add {name}_width=<size of the last dimension of its states>"
            )
        return width

    def _begin(self, module: nn.Module, args: tuple) -> None:
        self.calls.clear()
        self.active = True

    def _end(self, module: nn.Module, args: tuple, output: Any) -> None:
        self.active = False

    def clear(self) -> None:
        """Forget the last forward."""
        self.calls.clear()
        self.active = False

    def remove(self) -> None:
        """Take every hook off the student."""
        self.clear()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def read(self) -> CapturedStates:
        """Return the pooled states of the student's last forward, once.

        States are float32, or float64 if the student's are.

        Raises:
            ValueError: there was no forward, a watched module did not run in it, or the states have another shape or
                width than expected.
        """
        calls = dict(self.calls)
        self.clear()
        if "student" not in calls:
            raise ValueError(
                "no states are captured; call the wrapped student once before each distillation_loss, which uses "
                "its states up"
            )
        for name, path in self.paths.items():
            if name not in calls:
                raise ValueError(
                    f"the module {path!r} ({name}) was not called in the student's last forward, so it has "
                    "no states; name a module whose forward runs in every training step"
                )
        tokens = self._read(calls)
        text = _as_float(tokens.text)
        if tokens.text.ndim != 3 or text.shape[-1] != self.text_width:
            raise ValueError(
                f"text states at {self.paths.get('text', self.paths.get('base'))!r} have shape "
                f"{tuple(text.shape)}; expected (texts, tokens, {self.text_width})"
            )
        mask = (
            text.new_ones(text.shape[:2], dtype=torch.bool)
            if tokens.text_mask is None
            else tokens.text_mask != 0
        )
        captured = CapturedStates(text, mask, self._text_cls(text, mask, calls))
        if tokens.image is None and self.image_width is not None:
            raise ValueError("the student's last forward had no image; pass its image inputs too")
        if tokens.image is not None:
            image = _as_float(tokens.image)
            captured.image_states, captured.image_mask = image, tokens.image_mask
            captured.image_state = self._image_state(tokens, image)
        return captured

    def _text_cls(self, text: Tensor, mask: Tensor, calls: dict[str, Call]) -> Tensor:
        where = self.states.text_cls
        if where == "mean":
            return masked_mean(text, mask)
        if isinstance(where, str):
            state = _as_float(tensor_of(calls["text_cls"].output, None, where))
            state = state[..., 0, :] if state.ndim == text.ndim or len(state) != len(text) else state
            return state.reshape(-1, state.shape[-1])
        return text[:, where or 0]

    def _image_state(self, tokens: TokenStates, image: Tensor) -> Tensor:
        if self.states.image_pooling == "cls":
            if tokens.image_cls is None:
                raise ValueError(
                    "StudentStates: image_pooling='cls', but this student's image states have no class "
                    "token; use 'mean'"
                )
            return _as_float(tokens.image_cls)
        return masked_mean(image, tokens.image_mask)


def _as_float(states: Tensor) -> Tensor:
    return states.to(torch.promote_types(states.dtype, torch.float32))
