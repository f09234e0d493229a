"""The check that embeddings hold numbers."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_finite(embeds: Tensor, kind: str, names: Sequence[str], where: str) -> Tensor:
    """Return the embeddings as they are if all of them are finite.

    Args:
        embeds: (n, dim).
        kind: "image", "region" or "text", for the message.
        names: what the message calls each of the n.
        where: the teacher or the store that they come from; the message begins with it.

    Raises:
        ValueError: a row holds NaN or infinity; the message names up to three such rows, each once.
    """
    if not torch.isfinite(embeds.sum()):  # one pass; rows have unit length, so a finite sum cannot overflow
        rows = (~torch.isfinite(embeds).all(-1)).nonzero().flatten().tolist()
        bad = list(dict.fromkeys(names[row] for row in rows))
        raise ValueError(
            f"{where}: the embedding of {kind} {', '.join(map(repr, bad[:3]))} is not finite (NaN or inf), {len(bad)} "
            f"in all; remove such {kind}s, or use a teacher in higher precision"
        )
    return embeds
