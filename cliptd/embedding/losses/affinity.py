"""Affinity mimicking (TinyCLIP, arXiv 2309.12314)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, mimic_both_ways

SCALE = 50.0
"""Of student and teacher in the public recipe."""


def affinity_mimicking(
    *,
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    student_scale: Scale = SCALE,
    teacher_scale: Scale = SCALE,
) -> Tensor:
    """½ [CE(p_I→T, q_I→T) + CE(p_T→I, q_T→I)]: q the student's affinities, softmax(scale · Î T̂ᵀ), p the teacher's.

    Over the batch of all processes; the mean over processes is the whole batch's loss. No matrix of all pairs is held.

    Args:
        student_image, student_text: (pairs, dim), normalised or not.
        teacher_image, teacher_text: (pairs, teacher dim) likewise; no gradient reaches them.
        student_scale, teacher_scale: multiply the cosines.

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
