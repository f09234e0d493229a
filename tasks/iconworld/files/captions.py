"""iconworld's scenes with captions and no labels, as `tasks.batches.unlabelled` reads them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cliptd.utils.files import write_lines
from tasks.iconworld.files.folder import write_once
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.language import sample_captions
from tasks.iconworld.scenes import IMAGE_SIZE, sample_scenes, save_pictures

FORMAT = 1
"""Goes up with every change of what is drawn or written, so that no old copy is taken for a new one."""


@dataclass(frozen=True)
class CaptionSizes:
    """How many pairs each file gets."""

    seen: int = 3000
    """In the families that the student saw."""
    unseen: int = 3000
    """In the others: the shifted domain's."""


def write_captions(folder: Path, *, seed: int = 0, sizes: CaptionSizes | None = None) -> Path:
    """Write seen.jsonl and unseen.jsonl and their images below `folder`.

    The same seed and font packages give the same files. A finished folder of the same seed and sizes is left as it is.
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
        extents = save_pictures(scenes, [folder / image for image in images])
        size = {"width": IMAGE_SIZE, "height": IMAGE_SIZE}
        lines = [
            {"image": image, "text": text, **size, "boxes": own.tolist()}
            for image, text, own in zip(images, texts, extents, strict=True)
        ]
        write_lines(folder / f"{name}.jsonl", map(json.dumps, lines))
