"""The defaults of a teacher's adaptation; importing them costs no torch."""

from cliptd.training import TrainingConfig


def adaptation_defaults() -> TrainingConfig:
    """Low learning rate, few steps; validation (if any) chooses by recall@1."""
    return TrainingConfig(
        steps=300, batch_size=64, lr=1e-5, weight_decay=0.1, warmup_steps=30, metric="recall_at_1"
    )
