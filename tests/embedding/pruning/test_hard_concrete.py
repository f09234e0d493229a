"""Hard-concrete masks against their formula and against draws."""

import math

import pytest
import torch

from cliptd.embedding.pruning.hard_concrete import HardConcrete


def of(log_alpha, times=1):
    mask = HardConcrete(times)
    with torch.no_grad():
        mask.log_alpha.fill_(log_alpha)
    return mask


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 2.5])
def test_samples_are_the_formulas(log_alpha):
    mask = of(log_alpha, 5)
    torch.manual_seed(3)
    found = mask.sample()
    torch.manual_seed(3)
    for value, u in zip(found.tolist(), torch.rand(5).tolist(), strict=True):
        s = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + log_alpha) / (2 / 3)))
        assert value == pytest.approx(min(1, max(0, s * 1.2 - 0.1)), abs=1e-5)


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 2.5])
def test_the_probability_to_be_open_is_how_often_it_is(log_alpha):
    torch.manual_seed(0)
    mask = of(log_alpha, 100_000)
    open_share = (mask.sample() > 0).float().mean().item()
    assert mask.probability_open()[0].item() == pytest.approx(open_share, abs=5e-3)


def test_certain_masks_close_and_open_and_gradients_reach_them():
    assert of(-5.0).certain().item() == 0
    assert of(5.0).certain().item() == 1
    mask = of(0.0, 4)
    (mask.sample().sum() + mask.certain().sum() + mask.probability_open().sum()).backward()
    assert (mask.log_alpha.grad > 0).all()
