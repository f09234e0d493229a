"""Image–text pairs in a table of `datasets`: a folder of `save_to_disk`, a .parquet file or a folder of them."""

from dataclasses import dataclass
from pathlib import Path

import datasets
from PIL import Image

from cliptd.data.identity import identity_of_files
from cliptd.data.pairs.pair import Pair


def is_table(path: Path) -> bool:
    """Return whether `TablePairs` reads the path."""
    return (
        path.suffix == ".parquet"
        or any(path.glob("*.parquet"))
        or (path / "dataset_info.json").is_file()
        or (path / "dataset_dict.json").is_file()
    )


def _refuse_several_splits(path: Path) -> None:
    names = [file.name for file in path.glob("*.parquet")]
    splits = [split for split in ("train", "val", "test") if any(name.startswith(split) for name in names)]
    if len(splits) > 1:
        raise ValueError(
            f"{path}: holds files of the splits {', '.join(splits)}; give those of one, such as {path}/train*.parquet"
        )


@dataclass(frozen=True)
class TableImage:
    """The image of a row, called to open it in RGB. A corrupt image raises ValueError naming the row."""

    table: datasets.Dataset
    row: int
    column: str
    where: str

    def __call__(self) -> Image.Image:
        try:
            return self.table[self.row][self.column].convert("RGB")
        except (OSError, SyntaxError, ValueError, AttributeError, Image.DecompressionBombError) as error:
            raise ValueError(
                f"{self.where}: image is corrupt ({error}); replace it or remove it from the data"
            ) from error


class TablePairs:
    """A map-style dataset of `Pair`s. Rows are read only when they are needed.

    image_column: a column of `datasets.Image`, or of bytes and paths as a parquet file of such a column holds.
    text_column: a column of texts.

    Raises ValueError naming the table's columns if one is missing, or its splits if there are several.
    """

    def __init__(self, path: str | Path, image_column: str = "image", text_column: str = "text") -> None:
        self.path = Path(path)
        _refuse_several_splits(self.path)
        parquet = (
            [str(path)] if self.path.suffix == ".parquet" else sorted(map(str, self.path.glob("*.parquet")))
        )
        table = datasets.Dataset.from_parquet(parquet) if parquet else datasets.load_from_disk(path)
        if isinstance(table, datasets.DatasetDict):
            raise ValueError(f"{path}: holds the splits {', '.join(table)}; give the folder of one of them")
        missing = [name for name in (image_column, text_column) if name not in table.column_names]
        if missing:
            raise ValueError(
                f"{path}: has no column {' and no '.join(map(repr, missing))}, only {', '.join(table.column_names)}; "
                "name its columns"
            )
        # The fingerprint changes with the rows.
        self.name = self.state = f"{self.path.resolve()} {table._fingerprint}"
        files = parquet or [file["filename"] for file in table.cache_files]
        self.identity = f"{identity_of_files(files)}, {image_column}, {text_column}" if files else self.name
        self.images = table.select_columns([image_column])
        if not isinstance(table.features[image_column], datasets.Image):
            self.images = self.images.cast_column(image_column, datasets.Image())
        self.texts, self.column, self.text_column = (
            table.select_columns([text_column]),
            image_column,
            text_column,
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Pair:
        where, text = f"{self.path}, row {index}", self.texts[index][self.text_column]
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: {self.text_column} is {text!r}, expected a text")
        return Pair(f"{self.name}/{index}", TableImage(self.images, index, self.column, where), text.strip())
