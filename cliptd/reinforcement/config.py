"""The settings of a reinforcement; importing them costs no torch."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cliptd.data.pairs.pair import OnBadSample
from cliptd.utils.options import shown_default

Layout = Literal["public", "compact"]


@dataclass(kw_only=True)
class Reinforcement:
    """The settings of a reinforcement: what is added to every pair, and how it is saved.

    Raises:
        ValueError: a value is out of range; the message names the field.
    """

    augmentations: int = 10
    """Number of augmented images of each pair. In the paper five are about as good as more (arXiv 2311.17049)."""
    captions: int = 5
    """Number of synthetic captions of each image, with a captioner. In the paper two are about as good as more."""
    size: Annotated[int | None, shown_default("the largest input of the teachers")] = None
    """Height and width in pixels at which augmentations are drawn. None: the largest input of the teachers."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Smallest and largest share of the image that a crop shows."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of a crop's width to its height."""
    operations: int = 2
    """Number of RandAugment operations on a crop."""
    magnitude: int = 9
    """Strength of these operations, from 0 to 30."""
    layout: Layout = "compact"
    """compact: embeddings in float16 in a folder beside the data. public: webdataset shards with the images and
    embeddings in float32, which other code reads too."""
    shard_size: int = 1000
    """Number of pairs in a shard. A kill costs each process the shard it is making."""
    chunk: int = 32
    """Number of pairs that the teachers embed together, while as many are read ahead."""
    seed: int = 0
    """Decides the augmentations and captions."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at a pair that cannot be read (raise), or skip it and list it in bad_samples.txt (skip). A run that stopped
    goes on with skip."""

    def __post_init__(self) -> None:
        least = {"augmentations": 1, "captions": 0, "shard_size": 1, "chunk": 1, "operations": 0}
        least |= {} if self.size is None else {"size": 1}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least {smallest}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale is {self.scale}, expected two shares of an image, such as 0.08 1.0")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                f"ratio is {self.ratio}, expected two ratios of width to height, such as 0.75 1.33"
            )
