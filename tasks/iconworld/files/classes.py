"""iconworld as labelled images for zero-shot classification: images of one icon, whose classes are the nouns."""

import functools
from pathlib import Path

import numpy as np

from tasks.iconworld.files.pairs import SceneImage
from tasks.iconworld.glyphs import CONCEPTS, FAMILIES
from tasks.iconworld.scenes import sample_scenes

TEMPLATES = ("a photo of a {}", "a picture of a {}", "there is a {} in the picture", "one can see a {} here")
"""Prompts in the wording of the captions that teacher and students learned from."""


class IconClasses:
    """Labelled images as zero-shot and linear probes read them, drawn when they are asked for.

    Args:
        families: visual domains, of which each image's is drawn at random.
        images: number of images.
    """

    def __init__(self, families: tuple[str, ...] = FAMILIES, *, images: int = 1000, seed: int = 1) -> None:
        rng = np.random.default_rng([seed, 5])
        self.scenes = sample_scenes(rng, images, families, objects=(1, 1), persons=(0, 0))
        self.classes = self.class_names = list(CONCEPTS)
        self.labels = self.scenes.concept.max(axis=1).tolist()
        self.images = [SceneImage(self.scenes, index) for index in range(images)]
        self.ids = [f"scene {index}" for index in range(images)]
        self.folder = Path(f"icons-{seed}")  # its name in messages and progress


@functools.cache
def of_families(families: tuple[str, ...], images: int) -> IconClasses:
    """Return the same images at every call, so that every evaluation has the same."""
    return IconClasses(families, images=images)
