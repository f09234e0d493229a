"""Embeddings with NaN or infinity are refused by name."""

import pytest
import torch

from cliptd.utils.finite import check_finite


def test_up_to_three_rows_are_named():
    embeds = torch.ones(6, 4)
    assert check_finite(embeds, "image", list("abcdef"), "store s") is embeds
    embeds[1:5, 2] = torch.tensor([torch.nan, torch.inf, -torch.inf, torch.nan])
    with pytest.raises(
        ValueError, match=r"^store s: the embedding of image 'b', 'c', 'd' is not finite .*, 4 in all"
    ):
        check_finite(embeds, "image", list("abcdef"), "store s")
    with pytest.raises(ValueError, match=r"image 'b' is not finite .*, 1 in all"):
        check_finite(embeds, "image", list("abbbbf"), "store s")


def test_no_rows_are_finite():
    assert len(check_finite(torch.zeros(0, 4), "text", [], "the teacher")) == 0
