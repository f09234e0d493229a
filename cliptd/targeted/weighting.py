"""Confidence weights: distil most what the teacher knows and the student does not (arXiv 2201.05729)."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.targeted.distances import negative_log_softmax
from cliptd.targeted.shapes import check_labels

Gather = Callable[[Tensor], Tensor]
Mode = Literal["ratio", "teacher", "constant"]


def confidence_weights(
    teacher_probability: Tensor,
    student_probability: Tensor | None = None,
    *,
    mode: Mode = "ratio",
    max_ratio: float = 10.0,
    temperature: float = 1.0,
    eps: float = 1e-6,
    normalise: bool = True,
    gather: Gather | None = None,
) -> Tensor:
    """Return one weight for each instance. No gradient flows through it.

    "ratio": w = min((p_teacher + eps) / (p_student + eps), max_ratio) ** (1 / temperature). The upper limit keeps an
    instance that the student has wholly wrong from taking the whole batch.
    "teacher": w = (p_teacher + eps) ** (1 / temperature). "constant": w = 1.

    Args:
        teacher_probability: (batch,) probability that image and text belong together, in [0, 1].
        student_probability: (batch,) probability of the right answer, in [0, 1]. Needed by "ratio".
        mode: as above.
        max_ratio: upper limit of the ratio, before the temperature.
        temperature: above 1 flattens the weights, below 1 sharpens them.
        eps: added to both probabilities.
        normalise: divide by the mean over the batch, so that the total of the weights stays the same.
        gather: concatenates a tensor over processes, for the mean over the batch of all processes.

    Returns:
        (batch,) float32 weights, mean 1 over the gathered batch if normalised.

    Raises:
        ValueError: the mode is unknown, or the student's probability is missing for "ratio" or has another shape.

    >>> import torch
    >>> confidence_weights(torch.tensor([0.9, 0.3]), torch.tensor([0.3, 0.3]), eps=1e-12)
    tensor([1.5000, 0.5000])
    """
    if mode not in get_args(Mode):
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(map(repr, get_args(Mode)))}")
    teacher = teacher_probability.detach().float()
    if mode == "constant":
        return torch.ones_like(teacher)
    if mode == "teacher":
        weights = teacher + eps
    elif student_probability is None:
        raise ValueError(
            'mode "ratio" needs student_probability, the student\'s probability of the right answer, and got '
            'None; pass the student\'s labels and logits, or use mode "teacher" or "constant"'
        )
    elif student_probability.shape != teacher.shape:
        raise ValueError(
            f"student_probability has shape {tuple(student_probability.shape)}; expected "
            f"{tuple(teacher.shape)}, one probability for every instance, as teacher_probability has"
        )
    else:
        weights = ((teacher + eps) / (student_probability.detach().float() + eps)).clamp(max=max_ratio)
    weights = weights ** (1.0 / temperature)
    if normalise:
        weights = weights / (weights if gather is None else gather(weights)).mean()
    return weights


def teacher_probability(
    match: Tensor,
    image_embeds: Tensor,
    text_embeds: Tensor,
    *,
    labels: Tensor | None = None,
    rivals: Tensor | None = None,
    logit_scale: float = 100.0,
    sigmoid: bool = False,
    over: Literal["candidates", "batch"] = "candidates",
    gather: Gather | None = None,
) -> Tensor:
    """Return the teacher's probability that each instance's image and right text belong together.

    - An instance with several candidates: softmax of `match` over them, at the label.
    - An instance with one candidate and rivals: softmax of `match` and the rivals' logits, at the candidate.
    - Otherwise, over the batch: a sigmoid teacher's own probability of the pair. For other teachers, the softmax of the
      image's cosines with the texts of the gathered batch, at its own text. Texts equal to its own are no rivals.

    Args:
        match: (batch, candidates) teacher logits that image and text belong together.
        image_embeds: (batch, embed_dim); normalised here.
        text_embeds: (batch, candidates, embed_dim); normalised here.
        labels: (batch,) index of the right candidate. Needed with several candidates.
        rivals: (batch, rivals) teacher logits of wrong texts, -inf for padding. Read with one candidate only.
        logit_scale: multiplies cosines.
        sigmoid: if true, the teacher's logits are of single pairs, as SigLIP's.
        over: "candidates": as above. "batch": always over the batch, with the right candidate's text.
        gather: concatenates a tensor over processes.

    Returns:
        (batch,) float32 probabilities.

    Raises:
        ValueError: there are several candidates, and labels are missing or of another shape.
    """
    batch, candidates = match.shape
    right = torch.zeros(batch, dtype=torch.long, device=match.device)
    if candidates > 1:
        right = check_labels(labels, batch, candidates, "confidence weights")
        if over == "candidates":
            return match.float().softmax(dim=1).gather(1, right[:, None]).squeeze(1)
    elif rivals is not None and over == "candidates":
        return torch.cat([match, rivals.to(match)], dim=1).float().softmax(dim=1)[:, 0]
    rows = torch.arange(batch, device=match.device)
    if sigmoid:
        return match.float()[rows, right].sigmoid()
    own = F.normalize(text_embeds[rows, right].float(), dim=-1)
    images = F.normalize(image_embeds.float(), dim=-1)
    rivals = own if gather is None else gather(own)
    return (-negative_log_softmax(images, own, rivals, logit_scale)).exp()
