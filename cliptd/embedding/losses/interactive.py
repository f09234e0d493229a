"""Interactive contrastive learning (CLIP-KD, arXiv 2307.12732)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, contrast, normalised


def interactive_contrastive(
    *,
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    scale: Scale,
) -> Tensor:
    """Return ½ [CE of the student's images among the teacher's texts + CE of its texts among the teacher's images].

    The loss compares every pair in the batch of all processes; its mean over processes is the loss of the whole batch.

    Args:
        student_image, student_text: (pairs, dim) in the teacher's width, normalised or not.
        teacher_image, teacher_text: (pairs, dim), normalised or not. They get no gradient.
        scale: the logit scale, which multiplies the cosines. CLIP-KD learns one for this loss alone.

    Returns: a scalar.
    Raises: ValueError for other shapes, naming them.
    """
    image, text, image_t, text_t = normalised(
        student_image=student_image,
        student_text=student_text,
        teacher_image=teacher_image.detach(),
        teacher_text=teacher_text.detach(),
    )
    check_widths("the student's image and the teacher's text: the", image, text_t)
    check_widths("the teacher's image and the student's text: the", image_t, text)
    return (contrast(image, text_t, scale) + contrast(text, image_t, scale)) / 2
