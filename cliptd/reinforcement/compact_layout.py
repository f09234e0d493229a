"""The compact layout of a reinforced dataset: a folder beside the data, in float16, read row by row.

The folder holds reinforcement.json and two files for each part of the data; see `compact_part.py`. The images stay
where they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from cliptd.data.augmentation import OPERATIONS, Augmentation
from cliptd.data.files.tables import cached_table
from cliptd.data.identity import identity_of
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.compact_part import Part, read_part
from cliptd.reinforcement.dataset import CARD, Reinforced, identity_of_card, opener, read_card
from cliptd.utils.files import read_json

TABLE_VERSION = 1
FEATURES = datasets.Features(
    {
        "part": datasets.Value("int32"),
        "row": datasets.Value("int32"),
        "position": datasets.Value("int64"),
        "key": datasets.Value("string"),
        "text": datasets.Value("string"),
        "captions": datasets.List(datasets.Value("string")),
    }
)


class ReinforcedStore:
    """A map-style dataset of `Reinforced`, from a folder of the compact layout and the pairs that it was made of.

    The pairs may have moved since they were reinforced. A pair is recognised by its text and the last part of its key.

    Raises:
        FileNotFoundError, ValueError: a part is missing, cut short, or made of other pairs; the message names it.
    """

    def __init__(self, folder: str | Path, pairs: MapStyle[Pair]) -> None:
        self.folder, self.pairs = Path(folder), pairs
        self.card = read_card(self.folder / CARD)
        self.identity = f"reinforced {identity_of_card(self.folder / CARD)}, {identity_of(pairs)}"
        self.skipped: list[str] = list(getattr(pairs, "skipped", ()))
        self._parts: list[Part] = []
        covered = 0
        while covered < len(pairs):
            path = self.folder / f"reinforced-{len(self._parts):05d}.safetensors"
            if not path.is_file():
                if next(self.folder.glob("reinforced-*.tar"), None) is not None:
                    raise FileNotFoundError(
                        f"{self.folder} is of the public layout, whose shards hold everything; give "
                        f"{self.folder}/*.tar as data, and nothing as reinforced"
                    )
                raise FileNotFoundError(
                    f"{path} is missing: {covered} of {len(pairs)} pairs are reinforced; run reinforce_dataset.py "
                    "again with the same arguments"
                )
            part = read_part(path)
            if part.first != covered:
                raise ValueError(f"{path} begins at pair {part.first}, expected {covered}; reinforce again")
            self._parts.append(part)
            self.skipped += part.bad
            covered = part.end
        if not self._parts:
            raise ValueError(f"{self.folder}: the data holds no pair; give the data that was reinforced")
        if covered != len(pairs):
            raise ValueError(
                f"{self._parts[-1].path} was made of the pairs up to {covered}, the data holds {len(pairs)}; give the "
                "same data"
            )
        heads = tuple(part.path.with_suffix(".json") for part in self._parts)
        self._table = cached_table(_rows, heads, FEATURES, version=TABLE_VERSION)
        rows = sum(part.rows for part in self._parts)
        if len(self._table) != rows:
            raise ValueError(
                f"{self.folder}: the .json files describe {len(self._table)} samples, the .safetensors hold {rows}; "
                "delete both files of the part that differs and reinforce again"
            )

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Reinforced:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of a dataset of {len(self)}")
        found = self._table[index]
        part, pair = self._parts[found["part"]].read(found["row"]), self.pairs[found["position"]]
        if (_last(pair.key), pair.text) != (_last(found["key"]), found["text"]):
            raise ValueError(
                f"{self.folder}: pair {found['position']} of the data is {pair.key!r} with {pair.text!r}, and "
                f"{found['key']!r} with {found['text']!r} was reinforced; give the same data"
            )
        augmentations = tuple(
            Augmentation(
                tuple(crop), tuple((OPERATIONS[n], m) for n, m in zip(operations, magnitudes, strict=True))
            )
            for crop, operations, magnitudes in zip(
                *(part[name].tolist() for name in ("crops", "operations", "magnitudes")), strict=True
            )
        )
        return Reinforced(
            pair.key,
            opener(pair.image),
            pair.text,
            tuple(found["captions"]),
            augmentations,
            part["image_embeds"],
            part["text_embeds"],
        )


def _rows(files: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for part, path in enumerate(files):
        head = read_json(Path(path), "delete it and reinforce again")
        columns = zip(head["positions"], head["keys"], head["texts"], head["captions"], strict=True)
        for row, (position, key, text, captions) in enumerate(columns):
            found = {"part": part, "row": row, "position": position, "key": key, "text": text}
            yield {**found, "captions": captions}


def _last(key: str) -> str:
    return key.rsplit("/", 1)[-1]
