"""Learning curves: one image for all methods, with and without evaluations."""

import pytest
from PIL import Image

from cliptd.utils.learning_curves import plot_learning_curves

LOG = [
    {"step": 1, "loss": 1.5},
    {"step": 2, "loss": 1.0, "metrics": {"q_to_a": 0.3}},
    {"step": 3, "loss": 0.8},
    {"step": 4, "loss": 0.7, "metrics": {"q_to_a": 0.5, "qa_to_r": 0.4}},
]


def plotted(tmp_path, name, logs, metric):
    path = plot_learning_curves(
        logs, tmp_path / f"{name}.png", metric=metric, metric_name="accuracy", title="VQA, 600 labels"
    )
    return Image.open(path)


def test_metrics_stand_beside_the_loss(tmp_path):
    two = plotted(tmp_path, "two", {"none": LOG, "targeted": LOG[:2]}, "q_to_a")
    one = plotted(tmp_path, "one", {"none": LOG}, "q_to_a")
    assert two.size == one.size == (1200, 480)
    assert two.tobytes() != one.tobytes()


@pytest.mark.parametrize("metric", [None, "accuracy"])
def test_without_the_metric_the_loss_is_drawn_alone(tmp_path, metric):
    assert plotted(tmp_path, "loss", {"none": LOG}, metric).size == (720, 480)


def test_a_run_without_a_step_is_named(tmp_path):
    with pytest.raises(ValueError, match="the log of targeted has no step"):
        plotted(tmp_path, "x", {"none": LOG, "targeted": []}, "q_to_a")
