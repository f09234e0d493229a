"""The settings of a run in which a dual encoder learns from a teacher's embeddings, and the checks between them."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cliptd.data.pairs.pair import OnBadSample
from cliptd.embedding.loss_weights import AFFINITY_SCALE, OBJECTIVES, DimeFm, LossWeights
from cliptd.embedding.options import TOWERS, How, ObjectiveName, Tower
from cliptd.training import TrainingConfig
from cliptd.utils.effects import Effect, refuse_without_effect
from cliptd.utils.options import shown_default


def tiny_clip_training() -> TrainingConfig:
    """Return training settings with AdamW as in TinyCLIP's recipe (arXiv 2309.12314)."""
    return TrainingConfig(
        steps=2000, batch_size=256, lr=1e-4, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=200,
        eval_every=500, save_every=500, metric="top1", num_workers=4,
    )  # fmt: skip


@dataclass(kw_only=True)
class Distillation:
    """The settings of a student that learns from a teacher's embeddings.

    Raises:
        ValueError: a value is out of range, has no effect beside the others, or leaves a tower without a loss.
    """

    objective: ObjectiveName | Literal["reinforced"] = "affinity"
    """The loss. clip_kd is a mix of four, dime-fm is for images and sentences that are no pairs, and reinforced is
    MobileCLIP's loss on a reinforced dataset."""
    weights: dict[str, float] = field(default_factory=dict)
    """A mix of your own instead of an objective, such as affinity 1 contrastive 0.5."""
    affinity_scale: float | None = AFFINITY_SCALE
    """Logit scale of both models in affinity mimicking, as in TinyCLIP's recipe. None: each model's own."""
    source: Literal["live", "store"] = "live"
    """Run the teacher in every step (live), or look its embeddings up in a store that is written first."""
    store: Annotated[Path | None, shown_default("a folder in the run folder")] = None
    """The folder of the store, such as one from an earlier run. None: a folder in the run folder."""
    dime_fm: DimeFm = field(default_factory=DimeFm)
    """The mix of DIME-FM's losses."""
    crop: Annotated[tuple[float, float] | None, shown_default("no crops")] = None
    """Smallest and largest share of the image in a random crop, which student and teacher both see. None: no crops."""
    crops: int = 10
    """Number of crops of each image that a store holds. A live teacher sees a new crop in every step."""
    distill_weight: float = 1.0
    """Weight of the teachers in the reinforced objective, from 0 to 1. The contrastive loss has the rest. Use 1 for
    small students."""
    synthetic_captions: bool = True
    """If true, the reinforced objective also learns from synthetic captions if the data has them."""
    freeze: tuple[Tower, ...] = ()
    """Towers of the student that are not trained."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at a pair that cannot be read (raise), or skip it and list it in the run folder's bad_samples.txt (skip)."""
    towers: tuple[Tower, ...] = TOWERS
    """Towers that progressive stages shrink."""
    how: How = "even"
    """The choice of layers and channels to inherit: even, leading or magnitude. See inherit_weights.py."""
    mask_lr: float = 0.02
    """Learning rate of learned masks and of their price."""
    ramp_steps: int = 1000
    """Training steps over which the sparsity to reach with learned masks rises from 0."""
    training: TrainingConfig = field(default_factory=tiny_clip_training)

    def __post_init__(self) -> None:
        if not self.learning:
            raise ValueError("freeze names both towers, so nothing would learn; name one of them at most")
        if self.affinity_scale is not None and not self.affinity_scale > 0:
            raise ValueError(f"affinity_scale is {self.affinity_scale}, expected a number above 0")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop is {self.crop}, expected two shares of an image, such as 0.5 1.0")
        if not 0 <= self.distill_weight <= 1:
            raise ValueError(f"distill_weight is {self.distill_weight}, expected 0 to 1")
        if self.mix is not None:
            for tower in self.learning:
                if not self.mix.reads(tower):
                    raise ValueError(f"no loss reads the {tower} tower, so it would learn nothing; freeze it")
        refuse_without_effect(self, EFFECTS)

    @property
    def learning(self) -> tuple[Tower, ...]:
        """Return the towers that are trained."""
        return tuple(tower for tower in TOWERS if tower not in self.freeze)

    @property
    def takes_the_place(self) -> bool:
        """Return whether a tower takes the place of the teacher's, as with DIME-FM."""
        return self.mix is not None and self.mix.takes_the_place

    @property
    def mix(self) -> LossWeights | None:
        """Return the weights of the losses, or None with the reinforced objective, whose loss has none."""
        return None if self.objective == "reinforced" else self.loss_weights

    @property
    def loss_weights(self) -> LossWeights:
        """Return the weights of the losses.

        Raises:
            ValueError: `weights` names an unknown loss, or the objective is reinforced, which has other losses.
        """
        if self.weights:
            known = [f.name for f in dataclasses.fields(LossWeights)]
            for name in self.weights:
                if name not in known:
                    raise ValueError(f"weights names {name!r}; expected some of {', '.join(known)}")
            return LossWeights(**self.weights)
        if self.objective == "dime-fm":
            return LossWeights(**{f"dime_fm_{tower}": 1.0 for tower in self.learning})
        if self.objective == "reinforced":
            raise ValueError("the reinforced objective has no weights of losses; its data decides them")
        return OBJECTIVES[self.objective]


EFFECTS: dict[str, Effect] = {
    "weights": Effect("losses other than the reinforced one", lambda asked: asked.mix is not None),
    "objective": Effect("runs without weights of your own", lambda asked: not asked.weights),
    "affinity_scale": Effect("affinity mimicking", lambda asked: bool(asked.mix and asked.mix.affinity)),
    "source": Effect(
        "losses that compare the student with a teacher",
        lambda asked: bool(asked.mix and asked.mix.needs_teacher),
    ),
    "store": Effect('source "store"', lambda asked: asked.source == "store"),
    "dime_fm": Effect("DIME-FM's losses", lambda asked: bool(asked.mix and asked.mix.takes_the_place)),
    "crop": Effect("losses other than the reinforced one", lambda asked: asked.mix is not None),
    "crops": Effect(
        'crop with source "store"', lambda asked: asked.crop is not None and asked.source == "store"
    ),
    "distill_weight": Effect("the reinforced objective", lambda asked: asked.mix is None),
    "synthetic_captions": Effect("the reinforced objective", lambda asked: asked.mix is None),
}
"""Where each setting of a `Distillation` has an effect, if it is not everywhere."""
