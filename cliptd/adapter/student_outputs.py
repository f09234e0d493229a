"""Find and replace the loss, and find the scores, in a student's output of any kind."""

import copy
from typing import Any

from torch import Tensor

LOGITS = ("logits", "question_answering_score", "itm_score")  # the names that transformers' heads use


def find_logits(output: Any) -> Tensor | None:
    """Return the (batch, classes) scores in a student's output: by name, or second in a tuple after the loss."""
    if isinstance(output, tuple) and not hasattr(output, "_fields"):
        found = output[1] if len(output) > 1 else None
    else:
        fields = (
            output.get(name) if isinstance(output, dict) else getattr(output, name, None) for name in LOGITS
        )
        found = next((value for value in fields if value is not None), None)
    return found if isinstance(found, Tensor) else None


def student_probability(logits: Tensor | None, labels: Tensor | None) -> Tensor | None:
    """Return the student's probability of the right answer.

    With labels (B,) it is softmax(logits) at the label. A label outside 0..C-1 (such as -100, unlabelled) counts as
    chance, 1/C. With soft labels (B, C) it is Σ softmax(logits)·label, the expected score of an answer drawn from the
    softmax.

    Args:
        logits: (B, C) with C ≥ 2.
        labels: (B,) integers, or (B, C) floats in 0..1, as VQA's.

    Returns:
        (B,) float32 in 0..1, detached. None for logits or labels of another shape or kind.

    >>> import torch
    >>> student_probability(torch.tensor([[0.0, 0.0], [100.0, 0.0]]), torch.tensor([1, 0]))
    tensor([0.5000, 1.0000])
    """
    if logits is None or labels is None or logits.ndim != 2 or logits.shape[1] < 2:
        return None
    probability = logits.detach().float().softmax(-1)
    if labels.shape == logits.shape[:1] and not labels.is_floating_point():
        known = (labels >= 0) & (labels < logits.shape[1])
        right = probability.gather(1, labels.long().where(known, 0).unsqueeze(1)).squeeze(1)
        return right.where(known, 1 / logits.shape[1])
    if labels.shape == logits.shape and labels.is_floating_point():
        return (probability * labels.float()).sum(-1).clamp(0, 1)
    return None


def own_loss(output: Any, labels: Tensor | None = None) -> Tensor:
    """Return the loss in a student's output: `.loss`, ["loss"], the first of a tuple, or the scalar itself.

    Raises:
        ValueError: there is no loss.
    """
    loss: Any
    if isinstance(output, Tensor):
        loss = output
    elif isinstance(output, dict):
        loss = output.get("loss")
    elif isinstance(output, tuple) and not hasattr(output, "loss"):
        loss = output[0] if output else None
    else:
        loss = getattr(output, "loss", None)
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.reshape(())
    why = (
        "the batch has no labels; add labels="
        if labels is None
        else "labels were given, but it computes no loss"
    )
    raise ValueError(
        f"the student's output ({type(output).__name__}) has no loss: {why}, or call the student yourself "
        "and add model.distillation_loss(batch) to your own loss"
    )


def with_loss(output: Any, loss: Tensor) -> Any:
    """Return the output with another loss. A ModelOutput or dict is changed in place."""
    if isinstance(output, Tensor):
        return loss
    if isinstance(output, dict):
        output["loss"] = loss
        return output
    if isinstance(output, tuple):
        return output._replace(loss=loss) if hasattr(output, "_replace") else (loss, *output[1:])
    output = copy.copy(output)
    object.__setattr__(output, "loss", loss)  # works on a frozen dataclass too
    return output
