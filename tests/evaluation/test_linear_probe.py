"""The linear probe: its optimum against Newton's method, its gradient against autograd, its sweep and its folders."""

import math

import pytest
import torch
from torch.nn import functional as F

from cliptd.evaluation import logistic_regression
from cliptd.evaluation.linear_probe import linear_probe, probe_folders
from cliptd.evaluation.logistic_regression import (
    LogisticRegression,
    choose_strength,
    fit,
    mean_objective,
    strength_of,
)
from tests.helpers.table_encoder import TableEncoder, write_picture


def clusters(images, classes, dim, seed=0, spread=0.3):
    """Unit embeddings around class centres, all in one cone as CLIP's are, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99))
    features = 0.4 * centres[labels] + spread * torch.randn(images, dim, generator=generator) + 1.0
    return F.normalize(features, dim=1), labels


def objective(parameters, features, labels, strength):
    """Σ CE + λ/2 ‖W‖², of (classes, dim + 1) parameters whose last column is the bias."""
    logits = features.double() @ parameters[:, :-1].T + parameters[:, -1]
    return F.cross_entropy(logits, labels, reduction="sum") + strength / 2 * parameters[:, :-1].square().sum()


def newton(features, labels, classes, strength):
    """The minimum by damped Newton steps on the full Hessian; a pseudo-inverse, as biases may all shift by one."""
    parameters = torch.zeros(classes, features.shape[1] + 1, dtype=torch.float64)

    def value(flat):
        return objective(flat.view_as(parameters), features, labels, strength)

    flat = parameters.flatten()
    for _ in range(60):
        gradient = torch.func.grad(value)(flat)
        step = torch.linalg.pinv(torch.func.hessian(value)(flat), hermitian=True) @ gradient
        size = 1.0
        while value(flat - size * step) > value(flat) and size > 1e-6:
            size /= 2
        flat = flat - size * step
    assert torch.func.grad(value)(flat).abs().max() < 1e-9
    return flat.view_as(parameters)


@pytest.mark.parametrize("strength", [1e-2, 1.0, 100.0])
def test_the_solution_is_newtons(strength):
    features, labels = clusters(40, 3, 4)
    found = fit(features, labels, 3, strength)
    expected = newton(features, labels, 3, strength)
    assert found.weight.dtype == torch.float64
    torch.testing.assert_close(found.weight, expected[:, :-1], atol=1e-4, rtol=1e-5)
    centred = found.bias - found.bias.mean()
    torch.testing.assert_close(centred, expected[:, -1] - expected[:, -1].mean(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("strength", [1e-6, 1e-3, 1.0, 1e6])
def test_the_gradient_at_the_solution_is_nought(strength):
    features, labels = clusters(150, 5, 16)
    start = fit(features, labels, 5, 10 * strength)
    for found in (fit(features, labels, 5, strength), fit(features, labels, 5, strength, start)):
        parameters = torch.cat([found.weight, found.bias[:, None]], dim=1).requires_grad_()
        (gradient,) = torch.autograd.grad(objective(parameters, features, labels, strength), parameters)
        assert gradient.abs().max() / len(features) < 1e-7


def test_value_and_gradient_are_autograds_whatever_the_block(monkeypatch):
    features, labels = clusters(23, 4, 6)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    bias, mean = (torch.randn(n, dtype=torch.float64, generator=generator) for n in (4, 6))
    parameters = torch.cat([weight, bias[:, None]], dim=1).requires_grad_()
    expected = objective(parameters, features.double() - mean, labels, 0.7) / 23
    (gradient,) = torch.autograd.grad(expected, parameters)
    for held in (1, 20, 10**6):
        monkeypatch.setattr("cliptd.evaluation.ranking.BLOCK_PAIRS", held)
        loss, of_weight, of_bias = mean_objective(weight, bias, features, labels, 0.7, mean)
        torch.testing.assert_close(loss, expected.detach())
        torch.testing.assert_close(torch.cat([of_weight, of_bias[:, None]], dim=1), gradient)


def test_a_strength_that_is_not_positive_is_refused():
    features, labels = clusters(6, 2, 3)
    for strength in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=f"strength is {strength}; expected λ above 0"):
            fit(features, labels, 2, strength)


@pytest.mark.parametrize("peak", [-48, -47, -33, -1, 0, 5, 8, 31, 48])
def test_the_sweep_finds_a_single_peak_in_a_few_fits(peak, monkeypatch):
    fitted = []

    def fake_fit(features, labels, classes, strength, start):
        fitted.append(round(8 * math.log10(strength)))
        assert start is None or start.bias.item() > fitted[-1]  # of a stronger λ
        return LogisticRegression(torch.zeros(1, 1), torch.tensor([float(fitted[-1])]))

    def fake_score(model, features, labels):
        return 90.0 - abs(model.bias.item() - peak), 0.0

    monkeypatch.setattr(logistic_regression, "fit", fake_fit)
    monkeypatch.setattr(logistic_regression, "_score", fake_score)
    assert choose_strength(None, None, None, None, 2) == (strength_of(peak), 90.0)
    assert fitted[:7] == [48, 32, 16, 0, -16, -32, -48]  # CLIP's 10^6, 10^4, …, 10^-6
    assert len(fitted) == len(set(fitted)) <= 15


def test_the_chosen_strength_is_the_best_of_those_tried():
    features, labels = clusters(90, 3, 8, spread=0.8)
    val_features, val_labels = clusters(60, 3, 8, seed=1, spread=0.8)
    strength, accuracy = choose_strength(features, labels, val_features, val_labels, 3)

    def score(strength):
        found = fit(features, labels, 3, strength)
        logits = val_features.double() @ found.weight.T + found.bias
        hit = (logits.argmax(dim=1) == val_labels).double().mean().item()
        return 100 * hit, -F.cross_entropy(logits, val_labels).item()

    best = score(strength)
    assert accuracy == pytest.approx(best[0])
    for step in range(-48, 49, 16):
        assert score(strength_of(step)) <= best
    neighbours = [score(strength * 10 ** (side / 8)) for side in (-1, 1)]
    assert all(neighbour <= best for neighbour in neighbours)


def write_probe(folder, parts, classes=("a", "b", "c"), dim=6):
    """Write folders of clustered images and return the model that embeds them."""
    tables, number = [], 0
    for seed, (part, images) in enumerate(parts.items()):
        features, labels = clusters(images, len(classes), dim, seed)
        tables.append(features)
        for label in labels.tolist():
            write_picture(folder / part / classes[label] / f"{number:04d}.png", number)
            number += 1
    return TableEncoder(torch.cat(tables), batch_size=16)


def test_a_probe_with_validation_images_is_the_fit_on_both_parts(tmp_path):
    model = write_probe(tmp_path, {"train": 45, "val": 30, "test": 60})
    found = linear_probe(model, probe_folders(tmp_path))
    train, val, test = model.images.split([45, 30, 60])
    labels = torch.arange(60) % 3
    strength, accuracy = choose_strength(train, labels[:45], val, labels[:30], 3)
    classifier = fit(torch.cat([train, val]), torch.cat([labels[:45], labels[:30]]), 3, strength)
    hit = (test.double() @ classifier.weight.T + classifier.bias).argmax(dim=1) == labels
    per_class = {
        name: pytest.approx(100 * hit[label::3].double().mean().item()) for label, name in enumerate("abc")
    }
    assert found == {
        "training_images": 45,
        "validation_images": 30,
        "images": 60,
        "top1": pytest.approx(100 * hit.double().mean().item()),
        "mean_per_class": pytest.approx(100 * hit.double().mean().item()),
        "per_class": per_class,
        "validation_top1": pytest.approx(accuracy),
        "lambda": pytest.approx(strength),
        "skipped": [],
    }
    assert found["top1"] > 60


def test_without_validation_images_a_fifth_of_each_class_validates(tmp_path, monkeypatch):
    model = write_probe(tmp_path, {"train": 60, "test": 30})
    folders, drawn = probe_folders(tmp_path), []

    def choose(features, labels, val_features, val_labels, classes):
        drawn.append((features, labels, val_features, val_labels))
        return 1.0, 50.0

    monkeypatch.setattr("cliptd.evaluation.linear_probe.choose_strength", choose)
    found = linear_probe(model, folders)
    assert (found["training_images"], found["validation_images"], found["images"]) == (48, 12, 30)
    features, labels, val_features, val_labels = drawn[0]
    assert (labels.bincount().tolist(), val_labels.bincount().tolist()) == ([16] * 3, [4] * 3)
    rows = sorted(torch.cat([features, val_features]).tolist())
    assert rows == sorted(model.images[:60].tolist())  # each once, none twice
    assert linear_probe(model, folders) == found
    linear_probe(model, folders, seed=1)
    assert drawn[1][2].tolist() == val_features.tolist() != drawn[2][2].tolist()


def test_test_images_of_some_classes_keep_their_training_labels(tmp_path):
    model = write_probe(tmp_path, {"train": 60, "test": 30})
    for image in (tmp_path / "test" / "a").iterdir():
        image.unlink()
    (tmp_path / "test" / "a").rmdir()
    found = linear_probe(model, probe_folders(tmp_path))
    assert found["images"] == 20
    assert list(found["per_class"]) == ["b", "c"]
    assert found["top1"] > 60


def test_folders_that_do_not_fit_are_refused(tmp_path):
    model = write_probe(tmp_path, {"train": 3, "test": 3})
    with pytest.raises(FileNotFoundError, match="nowhere/train: no such folder"):
        probe_folders(tmp_path / "nowhere")
    write_picture(tmp_path / "train" / "only here" / "0.png", 0)
    write_picture(tmp_path / "val" / "new" / "0.png", 0)
    with pytest.raises(
        ValueError, match=r"val: has the class 'new' \(1 such\), which .*train lacks; give it training"
    ):
        probe_folders(tmp_path)
    few = tmp_path / "few"
    for part in ("train", "test"):
        write_picture(few / part / "a" / "0.png", 0)
    with pytest.raises(
        ValueError, match="few/train: holds 1 images, too few to validate on some; add images, or"
    ):
        linear_probe(model, probe_folders(few))


def test_bad_images_of_all_parts_are_listed(tmp_path):
    model = write_probe(tmp_path, {"train": 12, "val": 6, "test": 6})
    for part in ("train", "val", "test"):
        next(iter((tmp_path / part / "b").iterdir())).write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"train/b/.*is corrupt"):
        linear_probe(model, probe_folders(tmp_path))
    found = linear_probe(model, probe_folders(tmp_path), on_bad_sample="skip")
    assert (found["training_images"], found["validation_images"], found["images"]) == (11, 5, 5)
    assert len(found["skipped"]) == 3
