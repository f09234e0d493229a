"""Affinity mimicking (TinyCLIP, arXiv 2309.12314)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, mimic, normalised

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
    image, text, image_t, text_t = normalised(
        student_image=student_image,
        student_text=student_text,
        teacher_image=teacher_image,
        teacher_text=teacher_text,
    )
    check_widths("the student's", image, text)
    check_widths("the teacher's", image_t, text_t)
    to_texts = mimic(image, text, student_scale, [(image_t, text_t, teacher_scale)])
    to_images = mimic(text, image, student_scale, [(text_t, image_t, teacher_scale)])
    return (to_texts + to_images) / 2
