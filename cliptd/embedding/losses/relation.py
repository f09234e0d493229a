"""Contrastive relational distillation (CLIP-KD, arXiv 2307.12732)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, mimic, normalised


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
    image, text, image_t, text_t = normalised(
        student_image=student_image,
        student_text=student_text,
        teacher_image=teacher_image,
        teacher_text=teacher_text,
    )
    check_widths("the student's", image, text)
    check_widths("the teacher's", image_t, text_t)
    to_texts = mimic(image, text, student_scale, [(image_t, text_t, teacher_scale)], divergence=True)
    to_images = mimic(text, image, student_scale, [(text_t, image_t, teacher_scale)], divergence=True)
    return (to_texts + to_images) / 2
