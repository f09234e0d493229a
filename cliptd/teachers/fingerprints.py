"""Hashes that differ if two teachers, or two sets of weights, differ."""

import hashlib
import json

import torch
from torch import nn


def hash_weights(model: nn.Module) -> "hashlib._Hash":
    """Return the SHA-256 of the names, shapes, types and bytes of a model's tensors, to which more can be added."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest


def hash_vocabulary(vocabulary: dict[str, int]) -> str:
    """Return the SHA-256 of a map from token to id, in the order of the ids."""
    tokens = sorted(vocabulary.items(), key=lambda item: item[1])
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()
