"""iconworld as labelled images for zero-shot classification: pictures of one icon, the nouns are the classes."""

import functools
from pathlib import Path

import numpy as np

from tasks.iconworld.files.pairs import SceneImage
from tasks.iconworld.glyphs import CONCEPTS, FAMILIES
from tasks.iconworld.scenes import sample_scenes

TEMPLATES = ("a photo of a {}", "a picture of a {}", "there is a {} in the picture", "one can see a {} here")
"""As the teacher's and the students' captions go."""


class IconClasses:
    """What zero-shot and linear probes read: an `ImageFolder` that is drawn.

    It shows as many single icons of every concept of a family as asked.

    families: the icons' visual domains, drawn at random. images: how many pictures there are.
    """

    def __init__(self, families: tuple[str, ...] = FAMILIES, *, images: int = 1000, seed: int = 1) -> None:
        rng = np.random.default_rng([seed, 5])
        self.scenes = sample_scenes(rng, images, families, objects=(1, 1), persons=(0, 0))
        self.classes = self.class_names = list(CONCEPTS)
        self.labels = self.scenes.concept.max(axis=1).tolist()
        self.images = [SceneImage(self.scenes, index) for index in range(images)]
        self.ids = [f"scene {index}" for index in range(images)]
        self.folder = Path(f"icons-{seed}")  # what messages and progress call it


@functools.cache
def of_families(families: tuple[str, ...], images: int) -> IconClasses:
    """The same pictures at every evaluation."""
    return IconClasses(families, images=images)
