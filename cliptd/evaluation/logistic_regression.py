"""Multinomial logistic regression with L2 regularisation by L-BFGS in float64, and the sweep of the strength."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from cliptd.evaluation.ranking import block_rows, class_ranks, hits

MAX_ITERATIONS = 1000
STEPS_PER_DECADE = 8
"""The finest steps of the sweep."""
DECADES = 6
"""The sweep tries λ between 10^-6 and 10^6."""


@dataclass(frozen=True)
class LogisticRegression:
    """A linear classifier. weight: (classes, dim) float64. bias: (classes,) float64."""

    weight: Tensor
    bias: Tensor


def fit(
    features: Tensor, labels: Tensor, classes: int, strength: float, start: LogisticRegression | None = None
) -> LogisticRegression:
    """Minimise Σ CE(label, softmax(W x + b)) + λ/2 ‖W‖² over the images and return the solution.

    The bias is not regularised. scikit-learn's C is 1/λ. L-BFGS stops after at most 1,000 iterations, as for CLIP's
    authors (arXiv 2103.00020, appendix A.3).

    Args:
        features: (images, dim).
        labels: (images,), from 0 to classes - 1.
        classes: the number of classes.
        strength: λ, above 0.
        start: a solution for another λ, at which the search begins. None: it begins at zeros. The minimum is the same.
    """
    if not strength > 0:
        raise ValueError(f"strength is {strength}; expected λ above 0")
    # The bias absorbs the features' mean. Without the mean L-BFGS needs far fewer steps.
    mean = features.mean(dim=0, dtype=torch.float64)
    weight = features.new_zeros(classes, features.shape[1], dtype=torch.float64)
    bias = weight.new_zeros(classes)
    if start is not None:
        weight, bias = start.weight.clone(), start.bias + start.weight @ mean
    # Scaled, the weights curve the objective no more than the bias. With a large λ L-BFGS would hardly move otherwise.
    scale = math.sqrt(1 + classes * strength / len(features))
    weight *= scale
    search = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        max_eval=2 * MAX_ITERATIONS,
        tolerance_grad=1e-8,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        loss, of_weight, bias.grad = mean_objective(weight / scale, bias, features, labels, strength, mean)
        weight.grad = of_weight / scale
        return loss

    search.step(closure)
    weight /= scale
    return LogisticRegression(weight, bias - weight @ mean)


@torch.no_grad()
def mean_objective(
    weight: Tensor, bias: Tensor, features: Tensor, labels: Tensor, strength: float, mean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the objective of `fit` for features - mean, and its gradients by weight and bias.

    All three are divided by the number of images.
    """
    loss = strength / 2 * weight.square().sum()
    of_weight, of_bias = strength * weight, torch.zeros_like(bias)
    rows = block_rows(len(weight))
    for block, own in zip(features.split(rows), labels.split(rows), strict=True):
        x = block.double() - mean
        log_p = F.linear(x, weight, bias).log_softmax(dim=1)
        true = (torch.arange(len(own), device=own.device), own)
        loss = loss - log_p[true].sum()
        of_logits = log_p.exp_()
        of_logits[true] -= 1
        of_weight += of_logits.T @ x
        of_bias += of_logits.sum(dim=0)
    return loss / len(features), of_weight / len(features), of_bias / len(features)


def choose_strength(
    features: Tensor, labels: Tensor, validation_features: Tensor, validation_labels: Tensor, classes: int
) -> tuple[float, float]:
    """Return the λ with the best validation accuracy.

    The sweep tries every second decade first, and then steps ever closer to the best one, down to eight per decade
    (CLIP, arXiv 2103.00020, appendix A.3). If accuracies are equal, the lower cross-entropy decides.

    Args:
        features, labels: (images, dim) and (images,) to fit.
        validation_features, validation_labels: (images, dim) and (images,) to choose by.
        classes: the number of classes.

    Returns: λ, and its validation accuracy in percent.
    """
    scores: dict[int, tuple[float, float]] = {}  # eighths of a decade → (accuracy, -cross-entropy)
    fitted: dict[int, LogisticRegression] = {}
    limit, width = DECADES * STEPS_PER_DECADE, 2 * STEPS_PER_DECADE
    steps = list(range(limit, -limit - 1, -width))
    halvings = width.bit_length() - 1
    with tqdm(total=len(steps) + 2 * halvings, desc="sweep of λ", unit="fit", disable=None) as bar:
        while True:
            for step in steps:
                stronger = [other for other in fitted if other > step]
                start = fitted[min(stronger)] if stronger else None
                fitted[step] = fit(features, labels, classes, strength_of(step), start)
                scores[step] = _score(fitted[step], validation_features, validation_labels)
                bar.update()
            best = max(scores, key=scores.__getitem__)
            width //= 2
            if width == 0:
                return strength_of(best), scores[best][0]
            steps = [step for step in (best + width, best - width) if abs(step) <= limit]


def strength_of(step: int) -> float:
    """Return the λ of a step of the sweep.

    >>> [strength_of(step) for step in (-48, 0, 48)]
    [1e-06, 1.0, 1000000.0]
    """
    return 10.0 ** (step / STEPS_PER_DECADE)


def _score(model: LogisticRegression, features: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy in percent, and minus the cross-entropy."""
    accuracy = hits(class_ranks(features, labels, model.weight, model.bias), 1)
    no_mean = torch.zeros_like(model.weight[0])
    cross_entropy, *_ = mean_objective(model.weight, model.bias, features, labels, 0.0, no_mean)
    return accuracy, -cross_entropy.item()
