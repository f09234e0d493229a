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
    """½ [KL(p_I→T ‖ q_I→T) + KL(p_T→I ‖ q_T→I)], each model with its own scale.

    Affinity mimicking less the teacher's entropy: the same gradient, and 0 where the student does as the teacher.

    Args, returns and errors as `affinity_mimicking`.
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
