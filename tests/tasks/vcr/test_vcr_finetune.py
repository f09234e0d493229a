"""Settings of a VCR fine-tuning run."""

import pytest

from cliptd.targeted.changes import DistillationChanges
from cliptd.training import TrainingConfig
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.split import VcrSplit


def test_changes_never_bring_back_a_term_that_a_method_leaves_out():
    changes = DistillationChanges(image_weight=0.5, word_weight=0.25, text_weight=2.0, mass=0.6)
    settings = FinetuneVcr(distillation=changes)
    none, naive, targeted = (settings.method_config(method) for method in ("none", "naive", "targeted"))
    assert not none.distils
    assert (naive.image_weight, naive.word_weight, naive.text_weight) == (0.5, 0.0, 2.0)
    assert (targeted.image_weight, targeted.word_weight, targeted.text_weight) == (0.5, 0.25, 2.0)
    assert targeted.mass == 0.6


def test_contradicting_settings_are_named():
    with pytest.raises(ValueError, match="fraction or items"):
        VcrSplit(fraction=0.1, items=3)
    with pytest.raises(ValueError, match="num_workers is 2"):
        FinetuneVcr(source="live", training=TrainingConfig(num_workers=2, metric="mean"))
    with pytest.raises(ValueError, match="leave store out"):
        FinetuneVcr(source="live", store="somewhere")
    with pytest.raises(ValueError, match="data_root is None"):
        VcrSplit().training_items()
