"""Distances against float64 loops."""

import math

import pytest
import torch

from cliptd.targeted import embedding_distance


def unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def rows(n, width, seed):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalise", [True, False])
def test_cosine_l1_and_mse(normalise):
    states, targets = rows(4, 5, 0) * 3, rows(4, 5, 1) * 2
    for distance in ("cosine", "l1", "mse"):
        found = embedding_distance(states, targets, distance, normalise=normalise)
        for i in range(4):
            x, y = states[i].double().tolist(), unit(targets[i].double().tolist())
            raw = unit(x) if normalise else x
            expected = {
                "cosine": 1 - dot(unit(x), y),
                "l1": sum(abs(a - b) for a, b in zip(raw, y, strict=True)) / math.sqrt(5),
                "mse": sum((a - b) ** 2 for a, b in zip(raw, y, strict=True)),
            }[distance]
            assert found[i].item() == pytest.approx(expected, rel=1e-5)


def test_infonce_counts_equal_targets_once():
    states, targets = rows(4, 5, 0), rows(4, 5, 1)
    targets[2] = targets[0]
    rivals = torch.cat([targets, rows(2, 5, 2)])
    found = embedding_distance(states, targets, "infonce", temperature=0.5, rivals=rivals)
    for i in range(4):
        x, y = unit(states[i].tolist()), unit(targets[i].tolist())
        others = [unit(rivals[j].tolist()) for j in range(6) if not torch.equal(rivals[j], targets[i])]
        logits = [dot(x, y) / 0.5, *(dot(x, other) / 0.5 for other in others)]
        expected = -logits[0] + math.log(sum(math.exp(logit) for logit in logits))
        assert found[i].item() == pytest.approx(expected, rel=1e-5)


def test_infonce_alone_in_the_batch_is_zero_with_a_finite_gradient():
    states = rows(1, 5, 0).requires_grad_()
    loss = embedding_distance(states, rows(1, 5, 1), "infonce")
    loss.sum().backward()
    assert loss.item() == 0
    assert torch.equal(states.grad, torch.zeros(1, 5))


@pytest.mark.parametrize("distance", ["cosine", "l1", "mse", "infonce"])
def test_zero_states_give_finite_losses_and_gradients_in_half_precision(distance):
    states = torch.zeros(2, 5, dtype=torch.float16, requires_grad=True)
    loss = embedding_distance(states, torch.zeros(2, 5), distance)
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss).all()
    assert torch.isfinite(states.grad).all()
