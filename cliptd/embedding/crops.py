"""Crops of a picture that a store can hold: a few, drawn once, the same wherever they are replayed."""

from dataclasses import dataclass, field

import torch

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.data.pairs.pair import Pair
from cliptd.utils.seeds import derive_seed


@dataclass(frozen=True)
class DrawnCrops:
    """`count` crops of each picture, a function of its key, the policy and the seed.

    A crop's own key names all of these, and what the policy draws on this machine: embeddings of other crops are never
    taken for those of these.

    policy: without operations it only crops. size: height and width of a crop. count: of each picture.
    """

    policy: AugmentationPolicy
    count: int
    seed: int = 0
    name: str = field(init=False)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}, expected at least one crop of a picture")
        object.__setattr__(self, "name", f"{self.policy.fingerprint()}.{self.seed}")

    def drawn(self, pair: Pair) -> Pair:
        """One of the crops, by torch's generators."""
        return self.crop(pair, int(torch.rand(()).item() * self.count))

    def crop(self, pair: Pair, number: int) -> Pair:
        """The pair with a crop in the place of its opened image, and the crop's key."""
        picture = (pair.image.height, pair.image.width)
        augmentation = self.policy.draw(picture, derive_seed(self.seed, "crop", pair.key, number))
        image = replay(pair.image, augmentation, self.policy.size)
        return pair._replace(key=self.key(pair.key, number), image=image)

    def key(self, picture: str, number: int) -> str:
        """Of a crop, in a store."""
        return f"{picture}#{self.name}.{number}"
