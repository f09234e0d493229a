"""Fingerprints: short hashes that differ if two teachers, or two sets of weights, differ."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

PROBES = ("a", "A photo of 2 dogs.", "naïve café, 東京", "it's well-known", "person [0,1] " * 40)
"""Texts on which tokenizers differ: in capitals, digits, accents, scripts, punctuation and length."""


def fingerprint_of_teacher(
    model: nn.Module,
    tokenize: Callable[[Sequence[str]], Tensor | dict[str, Tensor]],
    description: dict[str, Any],
) -> str:
    """Return "sha256:" and 16 hex digits of all that a teacher's embeddings depend on.

    Args:
        model: the encoder, whose weights and their types count.
        tokenize: returns the tokens of texts; those of `PROBES` count.
        description: the image transform and the vocabulary, as JSON values.
    """
    digest = hash_weights(model)
    tokens = tokenize(PROBES)
    columns = {"input_ids": tokens} if isinstance(tokens, Tensor) else tokens
    for key, value in sorted(columns.items()):
        digest.update(f"{key} {value.tolist()}\n".encode())
    digest.update(json.dumps(description, sort_keys=True, default=str).encode())
    return shortened(digest)


def fingerprint_of_members(fingerprints: Iterable[str]) -> str:
    """Return the fingerprint of an ensemble, given its members' fingerprints in order."""
    return shortened(hashlib.sha256(" ".join(fingerprints).encode()))


def shortened(digest: "hashlib._Hash") -> str:
    """Return a SHA-256 as it is written everywhere: "sha256:" and its first 16 hex digits."""
    return f"sha256:{digest.hexdigest()[:16]}"


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
