"""iconworld as image–text pairs for dual encoders: scenes with a caption each, drawn when they are asked for."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cliptd.data.pairs.pair import Pair
from tasks.iconworld.glyphs import SEEN_FAMILIES
from tasks.iconworld.language import sample_captions
from tasks.iconworld.scenes import Scenes, concatenate, render, sample_scenes


@dataclass(frozen=True)
class SceneImage:
    """A function that draws the image of one scene."""

    scenes: Scenes
    index: int

    def __call__(self) -> Image.Image:
        return Image.fromarray(render(self.scenes[self.index : self.index + 1])[0])


class IconworldPairs:
    """A map-style dataset of `Pair`, the same for the same seed. Half of the scenes show one icon, half up to four.

    Args:
        families: visual domains of the icons.
    """

    def __init__(
        self, length: int = 20_000, *, seed: int = 0, families: tuple[str, ...] = SEEN_FAMILIES
    ) -> None:
        rng = np.random.default_rng([seed, 4])
        single = sample_scenes(rng, length // 2, families, objects=(1, 1), persons=(0, 0))
        self.scenes = concatenate(single, sample_scenes(rng, length - len(single), families))
        self.texts = sample_captions(rng, self.scenes).texts
        self.name = f"iconworld-{seed}-{length}"
        self.state = f"{self.name} of {', '.join(families)}"

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        return Pair(f"{self.name}/{index}", SceneImage(self.scenes, index), self.texts[index])
