"""How a dual encoder learns from a teacher's embeddings: the settings of a run, and which of them go together."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cliptd.data.pairs.pair import OnBadSample
from cliptd.embedding.inheritance import How
from cliptd.embedding.losses import AFFINITY_SCALE
from cliptd.embedding.objective import OBJECTIVES, DimeFm, LossWeights, ObjectiveName
from cliptd.embedding.pruning.masks import Tower
from cliptd.training import TrainingConfig


def tiny_clip_training() -> TrainingConfig:
    """AdamW as in TinyCLIP's recipe (arXiv 2309.12314)."""
    return TrainingConfig(
        steps=2000, batch_size=256, lr=1e-4, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=200,
        eval_every=500, save_every=500, metric="top1", num_workers=4,
    )  # fmt: skip


@dataclass(kw_only=True)
class Distillation:
    """How a student learns from a teacher's embeddings."""

    objective: ObjectiveName | Literal["reinforced"] = "affinity"
    """One loss, CLIP-KD's four, DIME-FM's of the towers that learn, or MobileCLIP's on a reinforced dataset."""
    weights: dict[str, float] = field(default_factory=dict)
    """A mix of your own instead, such as affinity 1 contrastive 0.5."""
    affinity_scale: float | None = AFFINITY_SCALE
    """Logit scale of both models in affinity mimicking, as in TinyCLIP's recipe; None: each model's own."""
    source: Literal["live", "store"] = "live"
    """Ask the teacher at every step, or look its embeddings up in a store, which is made first."""
    store: Path | None = None
    """A store that is there already, or to be shared. None: made in the run folder."""
    dime_fm: DimeFm = field(default_factory=DimeFm)
    """How DIME-FM's losses are mixed."""
    crop: tuple[float, float] | None = None
    """Smallest and largest share of the picture that a random crop shows, the same to student and teacher; None: whole
    pictures."""
    crops: int = 10
    """How many crops of each picture a store holds, if they are cropped; with a live teacher each is a new one."""
    distill_weight: float = 1.0
    """Of the teachers in the reinforced objective; the contrastive loss has the rest. 1 for small students."""
    synthetic_captions: bool = True
    """Whether the reinforced objective learns from synthetic captions, where the data has them."""
    freeze: tuple[Tower, ...] = ()
    """Towers of the student that stay as they are."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at a bad pair, or leave it out of its batch; the run folder's bad_samples.txt lists them."""
    towers: tuple[Tower, ...] = ("image", "text")
    """Which towers stages shrink."""
    how: How = "even"
    """What is inherited, see inherit_weights.py: even, leading or magnitude."""
    mask_lr: float = 0.02
    """Of masks and their price, with learned masks."""
    ramp_steps: int = 1000
    """Training steps over which the sparsity that masks are asked for rises, with learned masks."""
    training: TrainingConfig = field(default_factory=tiny_clip_training)

    def __post_init__(self) -> None:
        if not self.learning:
            raise ValueError("freeze names both towers, so nothing would learn; leave one out")
        if self.affinity_scale is not None and not self.affinity_scale > 0:
            raise ValueError(f"affinity_scale is {self.affinity_scale}, expected a number above 0")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop is {self.crop}, expected two shares of a picture, such as 0.5 1.0")
        if not 0 <= self.distill_weight <= 1:
            raise ValueError(f"distill_weight is {self.distill_weight}, expected 0 to 1")
        defaults = {f.name: f.default for f in dataclasses.fields(Distillation)}
        defaults |= {"weights": {}, "dime_fm": DimeFm()}
        if self.objective == "reinforced":
            names = ("weights", "affinity_scale", "source", "store", "dime_fm", "crop", "crops")
            where = "on the reinforced objective, whose data brings all; leave it out"
        else:
            mix, names = self.loss_weights, ["distill_weight", "synthetic_captions"]
            where = "here; see --help for what it belongs to"
            names += [] if self.crop is not None and self.source == "store" else ["crops"]
            names += [] if mix.takes_the_place else ["dime_fm"]
            names += [] if mix.affinity else ["affinity_scale"]
            names += [] if mix.needs_teacher else ["source"]
            names += [] if self.source == "store" else ["store"]
            names += ["objective"] if self.weights else []
            for tower in self.learning:
                if not mix.reads(tower):
                    raise ValueError(
                        f"no loss looks at the {tower} tower, which would learn nothing; freeze it"
                    )
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ValueError(f"{name} has no effect {where}")

    @property
    def learning(self) -> tuple[Tower, ...]:
        """The towers that are not frozen."""
        return tuple(tower for tower in ("image", "text") if tower not in self.freeze)

    @property
    def takes_the_place(self) -> bool:
        """Whether a tower takes the place of the teacher's (DIME-FM)."""
        return self.objective != "reinforced" and self.loss_weights.takes_the_place

    @property
    def loss_weights(self) -> LossWeights:
        """Of the objective; raises ValueError for an unknown loss."""
        if not self.weights and self.objective == "dime-fm":
            return LossWeights(**{f"dime_fm_{tower}": 1.0 for tower in self.learning})
        if not self.weights:
            return OBJECTIVES[self.objective]
        known = [f.name for f in dataclasses.fields(LossWeights)]
        for name in self.weights:
            if name not in known:
                raise ValueError(f"weights names {name!r}; expected some of {', '.join(known)}")
        return LossWeights(**self.weights)
