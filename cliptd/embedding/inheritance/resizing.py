"""Interpolation of tensors with positions: positional embeddings of images and texts, and patch kernels."""

import torch
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor
from torch.nn import functional as F


def resize_image_positions(embedding: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Interpolate bicubically with antialiasing, as open_clip does when it loads a checkpoint.

    Args:
        embedding: (class token + old height · old width, dim).
        old, new: (height, width) in patches.

    Returns: (class token + new height · new width, dim).
    """
    first = len(embedding) - old[0] * old[1]
    grid = embedding[first:].T.reshape(1, -1, *old)
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([embedding[:first], grid.reshape(embedding.shape[1], -1).T])


def resize_text_positions(embedding: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Interpolate linearly, as open_clip does when it loads a checkpoint.

    Args:
        embedding: (old context length + class token if there is one, dim).
        old, new: (context length,) in tokens.

    Returns: (new context length + class token if there is one, dim).
    """
    positions = F.interpolate(embedding[: old[0]].T[None], size=new, mode="linear", align_corners=False)
    return torch.cat([positions[0].T, embedding[old[0] :]])


def resize_patches(kernel: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Return a kernel that responds to an enlarged patch as the old kernel to the patch (FlexiViT, arXiv 2212.08013).

    It is the pseudo-inverse of bicubic interpolation. For smaller patches it is the least-squares solution.

    Args:
        kernel: (width, 3, old height · old width).
        old, new: (height, width) in pixels.

    Returns: (width, 3, new height · new width).
    """
    return resample_patch_embed(kernel.unflatten(2, old), list(new)).flatten(2)


RESIZE = {"tokens": resize_image_positions, "context": resize_text_positions, "patch": resize_patches}
"""The function for a resized axis, by the last part of the axis's name."""
