"""Interpolation of what has a place in the image or in the text: positional embeddings and patch kernels."""

import torch
from timm.layers import resample_patch_embed
from torch import Tensor
from torch.nn import functional as F


def resize_image_positions(embedding: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Bicubic with antialiasing, as open_clip does when it loads a checkpoint.

    Args:
        embedding: (class token + old height · old width, dim).
        old, new: (height, width) in patches.
    """
    first = len(embedding) - old[0] * old[1]
    grid = embedding[first:].T.reshape(1, -1, *old)
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([embedding[:first], grid.reshape(embedding.shape[1], -1).T])


def resize_text_positions(embedding: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Linear, as open_clip does when it loads a checkpoint.

    Args:
        embedding: (old context length, and a class token where there is one, dim).
        old, new: (context length,).
    """
    positions = F.interpolate(embedding[: old[0]].T[None], size=new, mode="linear", align_corners=False)
    return torch.cat([positions[0].T, embedding[old[0] :]])


def resize_patches(kernel: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """The kernel that says of an enlarged patch what the old one says of the patch (FlexiViT, arXiv 2212.08013).

    The pseudo-inverse of bicubic interpolation; for smaller patches its least-squares answer.

    Args:
        kernel: (width, 3, old height · old width).
        old, new: (height, width) in pixels.
    """
    return resample_patch_embed(kernel.unflatten(2, old), list(new)).flatten(2)


RESIZE = {"tokens": resize_image_positions, "context": resize_text_positions, "patch": resize_patches}
"""By the last part of the axis's name."""
