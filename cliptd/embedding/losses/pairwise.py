"""The common parts of losses over all pairs: rows of this process against the embeddings of all processes."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.embedding.losses.blockwise import sum_over_pairs
from cliptd.utils.distributed import gather, gather_with_gradient, rank, world_size

Scale = Tensor | float


def normalised(**embeds: Tensor) -> list[Tensor]:
    """Return (pairs, dim) tensors with rows of unit length, in float32 or better.

    Raises:
        ValueError: they are no matrices, or have different numbers of rows; the message names them.
    """
    shapes = {name: tuple(x.shape) for name, x in embeds.items()}
    if any(len(shape) != 2 for shape in shapes.values()) or len({shape[0] for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected (pairs, dim) tensors with one number of pairs, found {listed}")
    return [F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1) for x in embeds.values()]


def check_widths(what: str, image: Tensor, text: Tensor) -> None:
    """Raise ValueError unless images and texts that are compared have one width."""
    if image.shape[1] != text.shape[1]:
        raise ValueError(
            f"{what} image and text embeddings are {image.shape[1]} and {text.shape[1]} wide; expected one width"
        )


def contrast(queries: Tensor, keys: Tensor, scale: Scale) -> Tensor:
    """Return the mean over rows of −log softmax(scale · queries keysᵀ) at the own key, over the keys of all processes.

    The mean over processes is the loss of the whole batch.

    Args:
        queries, keys: (pairs, dim) of this process, with rows of unit length.
    """
    everyone = gather_with_gradient(keys)
    first = rows_before(keys)

    def block(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        log_p = logits.log_softmax(dim=1)
        here = torch.arange(rows.stop - rows.start, device=logits.device)
        own = (here, here + rows.start + first)
        loss, of_logits = -log_p[own].sum(), log_p.exp_()
        of_logits[own] -= 1
        return loss, of_logits

    return sum_over_pairs(queries, everyone, block, scale=scale) * world_size() / len(everyone)


def mimic(
    queries: Tensor,
    keys: Tensor,
    scale: Scale,
    teachers: Sequence[tuple[Tensor, Tensor, Scale]],
    *,
    divergence: bool = False,
) -> Tensor:
    """Return the mean over rows of CE(p, q).

    q = softmax(scale · queries keysᵀ) is the student's, p the mean of the teachers' own softmax. The mean over
    processes is the loss of the whole batch. The teachers get no gradient.

    Args:
        queries, keys: (rows, dim) and (keys, dim) of this process, with rows of unit length. The two numbers may
            differ.
        scale: the student's logit scale.
        teachers: (queries, keys, scale) of each teacher, in its own width.
        divergence: If true, return the mean over teachers of KL(p_k ‖ q). It differs by the teachers' entropies and
            has the same gradient.
    """
    everyone = gather_with_gradient(keys)
    known = [(own.detach(), gather(others), scale_t) for own, others, scale_t in teachers]
    rows_of_all = sum(rows_of_processes(queries))

    def block(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        log_q = logits.log_softmax(dim=1)
        p, entropy = torch.zeros_like(log_q), log_q.new_zeros(())
        for own, others, teacher_scale in known:
            log_p = (float(teacher_scale) * (own[rows] @ others.T)).log_softmax(dim=1).to(log_q.dtype)
            p_k = log_p.exp()
            p += p_k / len(known)
            if divergence:
                entropy = entropy - (p_k * log_p).sum() / len(known)
        return -(p * log_q).sum() - entropy, log_q.exp_().sub_(p)

    return sum_over_pairs(queries, everyone, block, scale=scale) * world_size() / rows_of_all


def mimic_both_ways(
    student_image: Tensor,
    student_text: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    student_scale: Scale,
    teacher_scale: Scale,
    *,
    divergence: bool,
) -> Tensor:
    """Return ½ of `mimic` from images to texts plus ½ from texts to images; embeddings may be normalised or not.

    Raises:
        ValueError: other shapes, which the message names.
    """
    image, text, image_t, text_t = normalised(
        student_image=student_image,
        student_text=student_text,
        teacher_image=teacher_image,
        teacher_text=teacher_text,
    )
    check_widths("the student's", image, text)
    check_widths("the teacher's", image_t, text_t)
    to_texts = mimic(image, text, student_scale, [(image_t, text_t, teacher_scale)], divergence=divergence)
    to_images = mimic(text, image, student_scale, [(text_t, image_t, teacher_scale)], divergence=divergence)
    return (to_texts + to_images) / 2


def rows_before(rows: Tensor) -> int:
    """Return how many rows the processes before this one have."""
    return sum(rows_of_processes(rows)[: rank()])


def rows_of_processes(rows: Tensor) -> list[int]:
    """Return how many rows each process has."""
    if world_size() == 1:
        return [len(rows)]
    return gather(torch.tensor([len(rows)], device=rows.device)).tolist()
