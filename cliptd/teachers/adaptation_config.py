"""The defaults of a teacher's adaptation, in a module that does not import torch."""

from cliptd.training import TrainingConfig


def adaptation_defaults() -> TrainingConfig:
    """Return a low learning rate and few steps. If there are validation pairs, recall@1 chooses the best weights."""
    return TrainingConfig(
        steps=300, batch_size=64, lr=1e-5, weight_decay=0.1, warmup_steps=30, metric="recall_at_1"
    )
