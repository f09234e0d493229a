"""Affinity mimicking (TinyCLIP, arXiv 2309.12314)."""

from torch import Tensor

from cliptd.embedding.loss_weights import AFFINITY_SCALE
from cliptd.embedding.losses.pairwise import Scale, mimic_both_ways


def affinity_mimicking(
    *,
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    student_scale: Scale = AFFINITY_SCALE,
    teacher_scale: Scale = AFFINITY_SCALE,
) -> Tensor:
    """Return ½ [CE(p_I→T, q_I→T) + CE(p_T→I, q_T→I)].

    q are the student's affinities, softmax(scale · Î T̂ᵀ), and p the teacher's. The loss compares every pair in the
    batch of all processes; its mean over processes is the loss of the whole batch. No matrix of all pairs is held.

    Args:
        student_image, student_text: (pairs, dim), normalised or not.
        teacher_image, teacher_text: (pairs, teacher dim), normalised or not. They get no gradient.
        student_scale, teacher_scale: the logit scales, which multiply the cosines.

    Returns: a scalar.
    Raises: ValueError for other shapes, naming them.

    >>> import torch
    >>> same = torch.eye(2)
    >>> round(affinity_mimicking(student_image=same, student_text=same, teacher_image=same, teacher_text=same,
    ...                          student_scale=1.0, teacher_scale=1.0).item(), 4)  # the entropy of softmax([1, 0])
    0.5822
    """
    return mimic_both_ways(
        student_image,
        student_text,
        teacher_image,
        teacher_text,
        student_scale,
        teacher_scale,
        divergence=False,
    )
