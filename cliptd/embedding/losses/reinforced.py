"""MobileCLIP's loss: the contrastive loss and the affinities of several teachers (arXiv 2311.17049, section 4)."""

from collections.abc import Sequence

from torch import Tensor

from cliptd.embedding.losses.pairwise import Scale, check_widths, contrast, mimic, normalised


def reinforced_contrastive(
    *,
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Sequence[Tensor],
    teacher_text: Sequence[Tensor],
    student_scale: Scale,
    teacher_scales: Sequence[Scale],
    distill_weight: float,
) -> Tensor:
    """Return (1 − λ) contrastive + λ · ½ [to texts + to images].

    "To texts" and "to images" are means over teachers k and rows of KL(p_k ‖ q). q is the student's
    softmax(student_scale · Î T̂ᵀ), p_k that of teacher k at its own scale. The losses of real and of synthetic captions
    are two calls and are added. The loss compares every pair in the batch of all processes; its mean over processes is
    the loss of the whole batch. No matrix of all pairs is held.

    Args:
        student_image, student_text: (pairs, dim), normalised or not.
        teacher_image, teacher_text: (pairs, dim of the teacher) for each teacher, normalised or not. They get no
            gradient.
        student_scale: the student's logit scale, which multiplies its cosines.
        teacher_scales: the logit scale of each teacher.
        distill_weight: λ, from 0 (the contrastive loss alone) to 1 (the teachers alone).

    Returns: a scalar.
    Raises: ValueError for other shapes or numbers of teachers, or λ outside its range.
    """
    counts = {len(teacher_image), len(teacher_text), len(teacher_scales)}
    if len(counts) > 1 or not teacher_image:
        raise ValueError(
            f"found {len(teacher_image)} teachers' images, {len(teacher_text)} teachers' texts and "
            f"{len(teacher_scales)} scales; expected one of each for every teacher, and at least one teacher"
        )
    if not 0 <= distill_weight <= 1:
        raise ValueError(f"distill_weight is {distill_weight}, expected 0 to 1")
    image, text = normalised(student_image=student_image, student_text=student_text)
    check_widths("the student's", image, text)
    teachers = []
    for number, (own_image, own_text, scale) in enumerate(
        zip(teacher_image, teacher_text, teacher_scales, strict=True)
    ):
        _, own_image, own_text = normalised(
            student_image=student_image, teacher_image=own_image, teacher_text=own_text
        )
        check_widths(f"teacher {number}'s", own_image, own_text)
        teachers.append((own_image, own_text, scale))
    loss = image.new_zeros(())
    if distill_weight < 1:
        contrastive = (contrast(image, text, student_scale) + contrast(text, image, student_scale)) / 2
        loss = loss + (1 - distill_weight) * contrastive
    if distill_weight > 0:
        to_texts = mimic(image, text, student_scale, teachers, divergence=True)
        swapped = [(own_text, own_image, scale) for own_image, own_text, scale in teachers]
        to_images = mimic(text, image, student_scale, swapped, divergence=True)
        loss = loss + distill_weight * (to_texts + to_images) / 2
    return loss
