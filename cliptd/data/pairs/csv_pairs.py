"""A CSV or TSV of image paths and texts, as open_clip_train takes it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.files.text_files import csv_columns, csv_rows
from cliptd.data.identity import identity_of_files, state_of_files
from cliptd.data.images import ImageFile
from cliptd.data.pairs.pair import OnBadSample, Pair

TABLE_VERSION = 2
FEATURES = datasets.Features(
    {
        "image": datasets.Value("string"),
        "text": datasets.Value("string"),
        "line": datasets.Value("int64"),
        "reason": datasets.Value("string"),
    }
)


class CsvPairs(TableDataset):
    """A map-style dataset of the `Pair`s of a CSV.

    Paths are absolute or relative to the file's folder. If the first image is not there but in the working directory,
    they are relative to that, as open_clip_train takes them.

    image_column, text_column: the names of the columns. separator: one character.
    on_bad_sample: "raise" at a line without path or text, or "skip" it and list it in `skipped`.

    Raises FileNotFoundError and ValueError naming file, line and column.
    """

    def __init__(
        self,
        path: str | Path,
        image_column: str = "filepath",
        text_column: str = "title",
        *,
        separator: str = ",",
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        columns = {"image_column": image_column, "text_column": text_column, "separator": separator}
        table = cached_table(_rows, (path,), FEATURES, version=TABLE_VERSION, **columns)
        super().__init__(Path(path), table, on_bad_sample=on_bad_sample)
        self.folder = self.name.resolve().parent
        first = self.row(0)["image"] if len(self) else ""
        if first and not (self.folder / first).is_file() and Path(first).is_file():
            self.folder = Path.cwd()
        self.identity = f"{identity_of_files([path])}, {image_column} and {text_column}"
        self.state = state_of_files([path], columns, self.folder)

    def __getitem__(self, position: int) -> Pair:
        row = self.row(position)
        where = f"{self.name}:{row['line']}"
        image = ImageFile(self.folder / row["image"], where, f"paths are relative to {self.folder}")
        return Pair(str(image.path), image, row["text"])


def _rows(files: tuple[str], image_column: str, text_column: str, separator: str) -> Iterator[dict[str, Any]]:
    (path,) = files
    columns = csv_columns(path, separator)
    missing = [name for name in (image_column, text_column) if name not in columns]
    if missing:
        raise ValueError(
            f"{path}: has no column {' and no '.join(map(repr, missing))}, only {', '.join(columns)}; name its "
            f"columns and its separator (now {separator!r})"
        )
    for line, row in csv_rows(path, separator):
        image, text = ((row[name] or "").strip() for name in (image_column, text_column))
        lacking = [name for name, value in ((image_column, image), (text_column, text)) if not value]
        reason = f"{path}:{line}: {' and '.join(lacking)} empty" if lacking else None
        if row.get(None):
            reason = f"{path}:{line}: has more values than columns; quote a text that holds {separator!r}"
        yield {"image": image, "text": text, "line": line, "reason": reason}
