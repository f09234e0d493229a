"""Wrap a student with CLIP-targeted distillation, and give the student back as it was."""

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cliptd.adapter.capture import CapturedStates, StateCapture
from cliptd.adapter.shows_student import ShowsStudent
from cliptd.adapter.student_outputs import find_logits, own_loss, student_probability, with_loss
from cliptd.adapter.student_states import StudentStates
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.targeted.objective import TargetedDistillation
from cliptd.utils.distributed import gather_with_gradient, world_size

if TYPE_CHECKING:
    from cliptd.store.source import Source
    from cliptd.teachers.ensemble import TeacherEnsemble
    from cliptd.teachers.teacher import Teacher


def wrap(
    student: nn.Module,
    teacher: "Teacher | TeacherEnsemble | Source | None" = None,
    config: TargetedDistillationConfig | None = None,
    states: StudentStates | None = None,
    *,
    embed_dim: int | None = None,
    logit_scale: float | None = None,
    logit_bias: float | None = None,
) -> "DistilledModel":
    """Add CLIP-targeted distillation (arXiv 2201.05729) to a student, whose forward and weights stay.

    Args:
        student: a ViLT, VisualBERT, LXMERT, BridgeTower, FLAVA or BLIP of transformers (any task head, in a
            peft model or another wrapper), or any nn.Module with `states`.
        teacher: a Teacher or a store; only its embed_dim, logit_scale and logit_bias are read.
        config: the objective's settings. None: the full method. With all weights 0 nothing is hooked.
        states: where the token states are, for a student without preset.
        embed_dim: the teacher's width, if there is no teacher to ask.
        logit_scale: the scale of the teacher's cosines. None: the teacher's, or 100 without teacher.
        logit_bias: the bias of a sigmoid teacher (SigLIP). None: the teacher's, or none.

    Raises:
        ValueError: there is neither a preset nor states, a path is unknown, the teacher's width is unknown, or there is
            an image term without image states.
    """
    config = config or TargetedDistillationConfig()
    teacher_dim = getattr(teacher, "embed_dim", None)
    if teacher_dim is not None and embed_dim not in (None, teacher_dim):
        raise ValueError(
            f"embed_dim is {embed_dim}, but the teacher's width is {teacher_dim}; leave embed_dim out"
        )
    embed_dim = embed_dim or teacher_dim
    logit_scale = getattr(teacher, "logit_scale", 100.0) if logit_scale is None else logit_scale
    logit_bias = getattr(teacher, "logit_bias", None) if logit_bias is None else logit_bias
    if not config.distils:
        headless = TargetedDistillation(config, embed_dim=1, text_width=1, image_width=1)
        return DistilledModel(student, headless, None)
    if embed_dim is None:
        raise ValueError(
            f"wrap needs the teacher's width, and teacher is {teacher!r:.80}: give a Teacher "
            "(cliptd.load_teacher), a store (cliptd.TeacherStore.open), or embed_dim="
        )
    capture = StateCapture(student, states)
    if capture.image_width is None and config.image_weight > 0:
        capture.remove()
        raise ValueError(
            f"image_weight is {config.image_weight}, but StudentStates names no image states; add "
            "image=<module path> or set image_weight=0"
        )
    objective = TargetedDistillation(
        config,
        embed_dim=embed_dim,
        text_width=capture.text_width,
        image_width=capture.image_width or 1,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
    )
    return DistilledModel(student, objective, capture)


class DistilledModel(ShowsStudent):
    """A student with the distillation objective, whose heads exist in training only. Made by `wrap`.

    It is called like the student. Columns that start with "teacher_" never reach the student. In training, their
    distillation loss is added to the student's own loss. Public attributes that are not its own are the student's
    (`config`, `save_pretrained`, `generate`, …). transformers.Trainer takes it as it is, with
    `remove_unused_columns=False`, because the columns are part of the batch.

    Attributes:
        student: the object that was wrapped.
        objective: TargetedDistillation, with the heads.
        last_terms: detached scalars of the last training forward: "task", "distillation", "image", "regions",
            "words", "text", and "unlabelled" if the batch has unlabelled examples.
        unlabelled_weight: weight of the distillation loss of unlabelled images and texts, beside 1 for labelled ones.
    """

    accepts_loss_kwargs = False  # for transformers.Trainer: losses are means over a batch

    def __init__(
        self, student: nn.Module, objective: TargetedDistillation, capture: StateCapture | None
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.last_terms: dict[str, float | Tensor] = {}
        self.unlabelled_weight = 1.0
        self._capture = capture
        self._warned = False
        self.train(student.training)

    @property
    def couples_batch(self) -> bool:
        """Return whether the loss is more than a sum over instances. If so, accumulation would change it."""
        return self._capture is not None and self.objective.config.couples_batch

    @property
    def couples_batch_why(self) -> str:
        """Say what couples the instances, and which settings would not."""
        return self.objective.config.couples_batch_why

    def forward(self, *args: Any, labels: Tensor | None = None, **batch: Any) -> Any:
        """Return the student's own output for `batch`. In training with teacher columns its loss is the total loss.

        A batch may hold another batch under "unlabelled": the student's and the teacher's columns of images and texts
        without labels. Then the student runs a second time, on that batch, and only its distillation loss, times
        `unlabelled_weight`, is added.

        Raises:
            ValueError: the student gave no loss, or its states and the columns do not belong together.
        """
        columns = {name: batch.pop(name) for name in list(batch) if name.startswith("teacher_")}
        unlabelled = batch.pop("unlabelled", None)
        if labels is not None:
            batch["labels"] = labels
        output = self.student(*args, **batch)
        if self._capture is None:
            return output
        if not (self.training and columns):
            self._capture.clear()
            why = None
            if self.training:
                why = "a training batch without teacher_ columns: make batches with DistillationCollator to distil"
            elif columns and torch.is_grad_enabled():
                why = (
                    "teacher_ columns in eval mode, as from_pretrained leaves a model: call train() to distil"
                )
            if why and not self._warned:
                self._warned = True
                warnings.warn(f"{why}; the loss is the student's own", stacklevel=2)
            return output
        task = own_loss(output, labels)
        distillation = self.distillation_loss(columns, labels=labels, logits=find_logits(output))
        self.last_terms["task"] = task.detach()
        if unlabelled is not None:
            distillation = distillation + self.unlabelled_weight * self._unlabelled_loss(unlabelled)
        return with_loss(output, task + distillation.to(task.dtype))

    def _unlabelled_loss(self, batch: dict[str, Tensor]) -> Tensor:
        terms = self.last_terms
        columns = {name: value for name, value in batch.items() if name.startswith("teacher_")}
        self.student(**{name: value for name, value in batch.items() if name not in columns})
        loss = self.distillation_loss(columns, labelled=False)
        self.last_terms = {**terms, "unlabelled": loss.detach()}
        return loss

    def distillation_loss(
        self,
        columns: dict[str, Tensor],
        *,
        labels: Tensor | None = None,
        logits: Tensor | None = None,
        labelled: bool = True,
    ) -> Tensor:
        """Return the weighted distillation loss of the student's last forward, which the caller ran.

        Args:
            columns: a batch of a DistillationCollator. Only keys that start with "teacher_" are read.
            labels: (B,) right classes, or (B, answers) soft labels, for the confidence weights.
            logits: (B, C) logits of the student, for the confidence weights.
            labelled: if false, images and texts have no right answer, and their weights depend on the teacher alone.

        Returns:
            A scalar. It is 0 if all weights are 0.

        Raises:
            ValueError: there was no forward since the last call, or states and columns do not belong together.
        """
        columns = {name: value for name, value in columns.items() if name.startswith("teacher_")}
        if self._capture is None:
            return torch.zeros((), device=next(iter(columns.values()), torch.empty(0)).device)
        captured = self._capture.read()
        _check_same_batch(columns, captured)
        _check_gradient(captured)
        hard = labels is not None and labels.ndim == 1 and not labels.is_floating_point()
        terms = self.objective(
            columns,
            text_states=captured.text_states,
            text_cls=captured.text_cls,
            image_state=captured.image_state,
            image_states=captured.image_states,
            student_probability=student_probability(logits, labels),
            labels=labels if hard else None,
            labelled=labelled,
            gather=gather_with_gradient if world_size() > 1 else None,
        )
        self.last_terms = {
            "distillation": terms.loss.detach(),
            "image": terms.image,
            "regions": terms.regions,
            "words": terms.words,
            "text": terms.text,
        }
        return terms.loss

    def unwrap(self) -> nn.Module:
        """Return the student object itself, without hooks. After that this model distils no more."""
        if self._capture is not None:
            self._capture.remove()
            self._capture = None
        return self.student


def _check_same_batch(columns: dict[str, Tensor], captured: CapturedStates) -> None:
    """Refuse columns that are not of the batch of the captured states."""
    if not columns:
        raise ValueError(
            "the batch has no column that starts with 'teacher_'; make it with a DistillationCollator"
        )
    ids = columns.get("teacher_word_ids")
    found = tuple(captured.text_states.shape[:2])
    if ids is not None and (ids.shape[:-1].numel(), ids.shape[-1]) != found:
        raise ValueError(
            f"the student's last forward has {found[0]} texts of {found[1]} tokens, but teacher_word_ids is "
            f"{tuple(ids.shape)} (batch, candidates, tokens); run the student once on the whole batch that "
            "the columns belong to, and check text_slice if it has one"
        )


def _check_gradient(captured: CapturedStates) -> None:
    """Refuse states without a gradient, by which distillation could not reach the student."""
    states = [state for state in (captured.text_states, captured.image_state) if state is not None]
    if torch.is_grad_enabled() and not any(state.requires_grad for state in states):
        raise ValueError(
            "the captured states carry no gradient, so distillation could not reach the student: it is "
            "frozen, ran under no_grad, or its module is inside re-entrant gradient checkpointing "
            "(use_reentrant=False keeps the gradient)"
        )
