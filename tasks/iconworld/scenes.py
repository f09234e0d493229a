"""Scenes: coloured icons on a two-by-two grid, as arrays, and their pixels.

A scene is one row of every array in `Scenes`. A cell is one quarter of the image. Everything is drawn from a
`numpy.random.Generator`, so a seed gives the same scenes on every machine with the same font packages.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tasks.iconworld.glyphs import CONCEPTS, FAMILIES, PERSON, SIZES, WINDOW, draws, mask_bank

IMAGE_SIZE = 64
MAX_SHIFT = 2
CELLS = 4
EMPTY = -1
_VISIBLE = 16  # of 255: fainter ink rounds away
PERSON_INDEX = len(CONCEPTS)
COLOURS = {
    "red": (214, 40, 40),
    "orange": (240, 140, 20),
    "yellow": (228, 200, 10),
    "green": (40, 160, 60),
    "blue": (40, 90, 220),
    "purple": (140, 50, 180),
    "pink": (240, 110, 180),
    "black": (25, 25, 25),
}
COLOUR_NAMES = tuple(COLOURS)
_RGB = np.array(list(COLOURS.values()), np.float32)


@dataclass
class Scenes:
    """`n` scenes as arrays. Cells are numbered left to right, top to bottom.

    Attributes:
        family: (n,) indices into FAMILIES.
        concept: (n, 4) indices into CONCEPTS; PERSON_INDEX for a person, EMPTY for nothing.
        colour: (n, 4) indices into COLOUR_NAMES.
        size: (n, 4) indices into SIZES.
        shift: (n, 4, 2) pixels to the right and down from the cell's centre.
        background: (n, 3) RGB in 0..255.
    """

    family: np.ndarray
    concept: np.ndarray
    colour: np.ndarray
    size: np.ndarray
    shift: np.ndarray
    background: np.ndarray

    def __len__(self) -> int:
        return len(self.family)

    def __getitem__(self, rows: "slice | np.ndarray") -> "Scenes":
        return Scenes(*(getattr(self, f.name)[rows] for f in fields(self)))


def allowed_concepts(family: int, subset: np.ndarray | None = None) -> np.ndarray:
    """Return the indices of the concepts that the family draws, out of `subset` if it is given."""
    pool = np.arange(len(CONCEPTS)) if subset is None else subset
    return np.array([c for c in pool if draws(FAMILIES[family], CONCEPTS[c])])


def sample_scenes(
    rng: np.random.Generator,
    n: int,
    families: tuple[str, ...],
    *,
    objects: tuple[int, int] = (1, 3),
    persons: tuple[int, int] = (0, 2),
    concepts: np.ndarray | None = None,
) -> Scenes:
    """Draw `n` scenes with persons and objects in random cells. No two objects of a scene are alike.

    Args:
        objects: fewest and most icons that are not persons.
        persons: fewest and most persons. Persons and objects never need more than the four cells.
        concepts: indices that the objects are drawn from; None: all.
    """
    family = rng.choice([FAMILIES.index(name) for name in families], n)
    concept = np.full((n, CELLS), EMPTY)
    count_persons = rng.integers(persons[0], persons[1] + 1, n)
    count_objects = np.minimum(rng.integers(objects[0], objects[1] + 1, n), CELLS - count_persons)
    pools = {f: allowed_concepts(f, concepts) for f in np.unique(family)}
    for i in range(n):
        things = rng.choice(pools[family[i]], count_objects[i], replace=False)
        things = np.concatenate([np.full(count_persons[i], PERSON_INDEX), things])
        concept[i, rng.permutation(CELLS)[: len(things)]] = things
    # Colours differ within a scene, so that "the red one" names one icon.
    colour = np.argsort(rng.random((n, len(COLOURS))), axis=1)[:, :CELLS]
    tint = rng.integers(215, 256, (n, 1))
    background = np.clip(tint + rng.integers(-12, 13, (n, 3)), 0, 255)
    return Scenes(
        family=family,
        concept=concept,
        colour=colour,
        size=rng.integers(0, len(SIZES), (n, CELLS)),
        shift=rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, (n, CELLS, 2)),
        background=background,
    )


def concatenate(*parts: Scenes) -> Scenes:
    """Return the scenes of all parts, in order."""
    return Scenes(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Scenes)))


def render(scenes: Scenes) -> np.ndarray:
    """Return the images of the scenes: (n, 64, 64, 3) uint8."""
    n, half = len(scenes), IMAGE_SIZE // 2
    side = IMAGE_SIZE + 2 * MAX_SHIFT  # a shifted window reaches over the image's edge, its ink does not
    image = np.empty((n, side, side, 3), np.float32)
    image[:] = scenes.background[:, None, None, :]
    bank = mask_bank()
    for row, cell in zip(
        *np.nonzero(scenes.concept != EMPTY), strict=True
    ):  # slices are quicker than indices
        mask = bank[scenes.family[row], scenes.concept[row, cell], scenes.size[row, cell]]
        opacity = mask[..., None].astype(np.float32) / 255
        left, top = MAX_SHIFT + half * np.array([cell % 2, cell // 2]) + scenes.shift[row, cell]
        window = image[row, top : top + WINDOW, left : left + WINDOW]
        window *= 1 - opacity
        window += _RGB[scenes.colour[row, cell]] * opacity
    inner = slice(MAX_SHIFT, MAX_SHIFT + IMAGE_SIZE)
    return np.round(image[:, inner, inner]).astype(np.uint8)


def save_images(scenes: Scenes, paths: Sequence[Path]) -> list[np.ndarray]:
    """Write each scene's image to its path and return the boxes (R, 4) of its icons."""
    drawn = zip(render(scenes), paths, strict=True)
    for pixels, path in tqdm(drawn, desc="images", total=len(paths), unit="image", disable=None):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95, subsampling=0)  # of a JPEG; a PNG loses nothing
    return [extents[concept != EMPTY] for extents, concept in zip(boxes(scenes), scenes.concept, strict=True)]


def boxes(scenes: Scenes) -> np.ndarray:
    """Return the box of the drawn pixels in every cell: (n, 4, 4) as x1, y1, x2, y2, zeros for empty cells."""
    bank, half = mask_bank(), IMAGE_SIZE // 2
    out = np.zeros((len(scenes), CELLS, 4), np.int64)
    extents = _extents(bank)
    for cell in range(CELLS):
        here = np.flatnonzero(scenes.concept[:, cell] != EMPTY)
        extent = extents[scenes.family[here], scenes.concept[here, cell], scenes.size[here, cell]]
        corner = np.stack([np.full(len(here), (cell % 2) * half), np.full(len(here), (cell // 2) * half)], 1)
        corner = corner + scenes.shift[here, cell]
        out[here, cell] = np.clip(extent + np.tile(corner, 2), 0, IMAGE_SIZE)
    return out


def _extents(bank: np.ndarray) -> np.ndarray:
    ink = bank >= _VISIBLE
    columns, lines = ink.any(-2), ink.any(-1)
    first = lambda a: a.argmax(-1)  # noqa: E731
    last = lambda a: a.shape[-1] - a[..., ::-1].argmax(-1)  # noqa: E731
    return np.stack([first(columns), first(lines), last(columns), last(lines)], -1)


def name_of(concept: int) -> str:
    """Return the word for a concept's index."""
    return PERSON if concept == PERSON_INDEX else CONCEPTS[concept]
