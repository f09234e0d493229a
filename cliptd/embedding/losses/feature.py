"""Feature mimicking (CLIP-KD, arXiv 2307.12732)."""

import torch
from torch import Tensor

from cliptd.embedding.losses.pairwise import normalised
from cliptd.utils.distributed import gather, world_size


def feature_mimicking(*, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of unit embeddings, over embeddings and dimensions.

    CLIP-KD adds the losses of images and of texts and weights the sum by 2,000. The mean over processes is the loss of
    the whole batch.

    Args:
        student, teacher: (embeddings, dim) of images or of texts, normalised or not. The teacher gets no gradient.

    Returns: a scalar.
    Raises: ValueError for other shapes or widths.

    >>> import torch
    >>> feature_mimicking(student=torch.tensor([[2.0, 0.0]]), teacher=torch.tensor([[0.0, 3.0]]))
    tensor(1.)
    """
    student, teacher = normalised(student=student, teacher=teacher.detach())
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student's embeddings are {student.shape[1]} wide and the teacher's {teacher.shape[1]}; project the "
            "student's to the teacher's width first"
        )
    rows = gather(torch.tensor([len(student)], device=student.device)).sum()
    return (student - teacher).square().mean(dim=1).sum() * world_size() / rows
