"""Token states as the objective reads them: word means, and padded rows gathered over processes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cliptd.targeted.weighting import Gather


def mean_by_word(states: Tensor, word_ids: Tensor, words: int) -> tuple[Tensor, Tensor]:
    """Return word states: the mean of each word's token states.

    Args:
        states: (rows, tokens, width).
        word_ids: (rows, tokens) index of each token's word, -1 for none.
        words: K, the number of words in a row, padding included.

    Returns:
        (rows, K, width) float32 means, 0 for a word without tokens, and (rows, K) bool, true for a word with tokens.

    >>> import torch
    >>> states = torch.tensor([[[1.0], [3.0], [5.0]]])
    >>> mean_by_word(states, torch.tensor([[0, 0, -1]]), 2)
    (tensor([[[2.],
             [0.]]]), tensor([[ True, False]]))
    """
    belongs = word_ids[:, None, :] == torch.arange(words, device=word_ids.device)[None, :, None]
    counts = belongs.sum(dim=2)
    means = torch.bmm(belongs.float(), states.float()) / counts.clamp(min=1)[:, :, None]
    return means, counts > 0


def gather_padded(padded: Tensor, gather: Gather | None) -> Tensor:
    """Gather (rows, K, e) over processes, which may have padded to different K."""
    if gather is None:
        return padded
    room = int(gather(torch.tensor([padded.shape[1]], device=padded.device)).max())
    return gather(F.pad(padded, (0, 0, 0, room - padded.shape[1])))
