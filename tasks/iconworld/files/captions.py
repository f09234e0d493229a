"""iconworld as images with captions and no labels, which `tasks.batches.unlabelled` reads."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cliptd.utils.files import write_lines
from tasks.iconworld.files.folder import write_once
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.language import sample_captions
from tasks.iconworld.scenes import IMAGE_SIZE, sample_scenes, save_images

FORMAT = 1
"""Version of what is drawn and written. It goes up with every change, so that no old copy is taken for a new one."""


@dataclass(frozen=True)
class CaptionSizes:
    """The number of pairs in each file."""

    seen: int = 3000
    """Number in the icon families that the student saw."""
    unseen: int = 3000
    """Number in the other families, which are those of the shifted domain."""


def write_captions(folder: Path, *, seed: int = 0, sizes: CaptionSizes | None = None) -> Path:
    """Write seen.jsonl and unseen.jsonl and their images below `folder`.

    The same seed and font packages give the same files. A finished folder of the same seed and sizes stays as it is.
    """
    sizes = sizes or CaptionSizes()
    description = {"task": "captions", "format": FORMAT, "seed": seed, "sizes": asdict(sizes)}
    return write_once(folder, description, lambda: _write_files(folder, seed, sizes))


def _write_files(folder: Path, seed: int, sizes: CaptionSizes) -> None:
    for number, (name, count) in enumerate(asdict(sizes).items()):
        rng = np.random.default_rng([seed, 3, number])
        families = UNSEEN_FAMILIES if name == "unseen" else SEEN_FAMILIES
        scenes = sample_scenes(rng, count, families, objects=(2, 2), persons=(1, 2))
        texts = sample_captions(rng, scenes).texts
        images = [f"{name}/{i:06d}.png" for i in range(count)]
        extents = save_images(scenes, [folder / image for image in images])
        size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
        lines = [
            {"image": image, "text": text, **size, "boxes": own.tolist()}
            for image, text, own in zip(images, texts, extents, strict=True)
        ]
        write_lines(folder / f"{name}.jsonl", map(json.dumps, lines))
