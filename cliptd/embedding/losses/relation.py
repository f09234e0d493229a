"""Contrastive relational distillation (CLIP-KD, arXiv 2307.12732)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, mimic_both_ways


def contrastive_relation(
    *,
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    student_scale: Scale,
    teacher_scale: Scale,
) -> Tensor:
    """Return ½ [KL(p_I→T ‖ q_I→T) + KL(p_T→I ‖ q_T→I)], each model with its own scale.

    It is affinity mimicking minus the teacher's entropy: it has the same gradient, and it is 0 if the student's
    affinities equal the teacher's.

    Arguments, result and errors are those of `affinity_mimicking`.
    """
    return mimic_both_ways(
        student_image,
        student_text,
        teacher_image,
        teacher_text,
        student_scale,
        teacher_scale,
        divergence=True,
    )
