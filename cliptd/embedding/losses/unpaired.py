"""DIME-FM's losses: a tower learns from images and sentences that are no pairs (arXiv 2303.18232)."""

from torch import Tensor

from cliptd.embedding.losses.pairwise import check_widths, mimic, normalised


def dime_fm(
    *,
    student_image: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    logit_scale: float = 100.0,
    vl_weight: float = 0.7,
    pvl_weight: float = 0.3,
    udist_weight: float = 0.0,
    vl_temperature: float = 1.0,
    pvl_temperature: float = 3.0,
    udist_temperature: float = 7.0,
) -> Tensor:
    """Return the loss of a student's image tower that takes the place of the teacher's.

    It is a weighted sum. Each part is KL(teacher ‖ student), the mean over rows, between two
    softmax(logit_scale / temperature · similarities):

    - vl: images to unpaired texts and texts to images, Î_t T̂_tᵀ and Î_s T̂_tᵀ;
    - pvl: the same with the teacher's images in the place of texts, 2 · KL of Î_t Î_tᵀ and Î_s Î_tᵀ;
    - udist: distances between images, 2 · KL of Î_t Î_tᵀ and Î_s Î_sᵀ.

    For a text tower give the student's texts as `student_image`, the teacher's texts as `teacher_image` and the
    teacher's images as `teacher_text`. The loss compares every pair in the batch of all processes; its mean over
    processes is the loss of the whole batch. No matrix of all pairs is held.

    Args:
        student_image, teacher_image: (images, dim) of the same images, normalised or not.
        teacher_text: (texts, dim). Their number may differ from that of the images.
        logit_scale: the logit scale of both models.
        vl_weight, pvl_weight, udist_weight: the weights of the parts. A part with weight 0 is not computed.
        vl_temperature, pvl_temperature, udist_temperature: divide the logit scale in the parts.

    Returns: a scalar. Only the student gets gradients.
    Raises: ValueError for other shapes, naming them, or if every weight is 0.
    """
    if not (vl_weight or pvl_weight or udist_weight):
        raise ValueError("vl_weight, pvl_weight and udist_weight are all 0; give one a weight")
    student, teacher = normalised(student_image=student_image, teacher_image=teacher_image)
    (text,) = normalised(teacher_text=teacher_text)
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student's embeddings are {student.shape[1]} wide and the teacher's {teacher.shape[1]}; project the "
            "student's to the teacher's width first"
        )
    check_widths("the teacher's", teacher, text)
    teacher, text = teacher.detach(), text.detach()
    loss = student.new_zeros(())
    if vl_weight:
        scale = logit_scale / vl_temperature
        to_texts = mimic(student, text, scale, [(teacher, text, scale)], divergence=True)
        to_images = mimic(text, student, scale, [(text, teacher, scale)], divergence=True)
        loss = loss + vl_weight * (to_texts + to_images)
    if pvl_weight:
        scale = logit_scale / pvl_temperature
        found = mimic(student, teacher, scale, [(teacher, teacher, scale)], divergence=True)
        loss = loss + pvl_weight * 2 * found
    if udist_weight:
        scale = logit_scale / udist_temperature
        found = mimic(student, student, scale, [(teacher, teacher, scale)], divergence=True)
        loss = loss + udist_weight * 2 * found
    return loss
