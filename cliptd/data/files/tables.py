"""Large annotation files as memory-mapped tables, which are made at the first use, and data sets of their rows."""

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import datasets
import numpy as np
from datasets.exceptions import DatasetGenerationError

from cliptd.data.files.cache import cache_folder, size_and_date


def cached_table(
    rows: Callable[..., Iterator[dict[str, Any]]],
    files: tuple[str | Path | None, ...],
    features: datasets.Features,
    *,
    version: int,
    **arguments: Any,
) -> datasets.Dataset:
    """Return the table of `rows(files, **arguments)`, from the cache if the files have not changed since.

    The first start streams the files, later ones map the table into memory. Processes that start together make it
    once.

    Args:
        rows: a generator function. Its errors are raised unchanged.
        files: the files that it reads, None for one that does not exist. A changed size or date makes a new table.
        features: types of the columns.
        version: a number to raise with every change of `rows`.
        arguments: further arguments of `rows`.
    """
    made_of = (version, *(None if file is None else size_and_date(Path(file)) for file in files))
    paths = tuple(None if file is None else str(Path(file).resolve()) for file in files)
    try:
        return datasets.Dataset.from_generator(
            _generate,
            features=features,
            cache_dir=str(cache_folder() / "tables"),
            gen_kwargs={"rows": rows, "files": paths, "arguments": arguments, "made_of": made_of},
        )
    except DatasetGenerationError as error:
        raise error.__cause__ or error from None


def _generate(
    rows: Callable[..., Iterator[dict[str, Any]]],
    files: tuple[str | None, ...],
    arguments: dict[str, Any],
    made_of: tuple[Any, ...],
) -> Iterator[dict[str, Any]]:
    """Yield the rows. The name of the cached table is a hash of all arguments, and `made_of` is only for that."""
    yield from rows(files, **arguments)


class TableDataset(ABC):
    """The rows of a table. Subclasses make examples of them.

    The table's column "reason" holds what is wrong with a row, or None. An example's `image` is an `ImageFile`.

    name: the file, for messages.
    table: the rows.
    on_bad_sample: "raise" at a bad row now and at a bad image when it is opened, or "skip" both.

    `indices` holds the kept rows in their order, an int64 array that forked workers share. `skipped` holds the reasons
    of the skipped rows.
    """

    def __init__(
        self, name: Path, table: datasets.Dataset, *, on_bad_sample: Literal["raise", "skip"] = "raise"
    ) -> None:
        if on_bad_sample not in ("raise", "skip"):
            raise ValueError(f"on_bad_sample is {on_bad_sample!r}; choose 'raise' or 'skip'")
        self.name, self.table, self.on_bad_sample = name, table, on_bad_sample
        reasons = table.data.column("reason")  # as Arrow has it: a table may have millions of rows
        self.indices = np.flatnonzero(reasons.is_null().to_numpy())
        self.skipped: list[str] = reasons.drop_null().to_pylist()
        if self.skipped and on_bad_sample == "raise":
            raise ValueError(
                f"{self.skipped[0]} ({len(self.skipped)} such; use on_bad_sample 'skip' to skip them)"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @abstractmethod
    def __getitem__(self, position: int) -> Any:
        """Return the example at a position among the kept rows."""

    def column(self, key: str) -> list[Any]:
        """Return a column of the kept rows, such as the ids and strata for splits."""
        return self.table.select(self.indices)[key][:]

    def row(self, position: int) -> dict[str, Any]:
        """Return the row at a position among the kept ones."""
        if not 0 <= position < len(self):
            raise IndexError(f"example {position} of {len(self)}")
        return self.table[int(self.indices[position])]

    def subset(self, positions: Sequence[int]) -> Self:
        """Return a data set of the kept rows at these positions, in this order. Images are not checked again."""
        part = copy.copy(self)
        part.indices = self.indices[np.asarray(positions, dtype=np.int64)]
        return part

    def keep(self, indices: Sequence[int] | None) -> None:
        """Keep only these rows, in this order, and check their images if bad samples are skipped. None: all rows.

        Raises ValueError for a number outside the kept rows.
        """
        if indices is not None:
            chosen = np.asarray(indices, dtype=np.int64)
            outside = chosen[(chosen < 0) | (chosen >= len(self))]
            if len(outside):
                raise ValueError(
                    f"indices holds {outside[0]}, but {self.name} has {len(self)} items (0-based)"
                )
            self.indices = self.indices[chosen]
        if self.on_bad_sample == "skip":
            self._skip_bad_images()

    def _skip_bad_images(self) -> None:
        reasons: dict[Path, str | None] = {}
        good = []
        for position, index in enumerate(self.indices):
            image = self[position].image
            if image.path not in reasons:
                reasons[image.path] = image.reason()
            if reasons[image.path] is None:
                good.append(index)
            else:
                self.skipped.append(f"{image.where}: {reasons[image.path]}")
        self.indices = np.array(good, dtype=np.int64)
        if self.skipped:
            warnings.warn(
                f"{self.name}: {len(self.skipped)} samples skipped, {len(good)} kept; the first: "
                f"{self.skipped[0]} (all of them: dataset.skipped)",
                stacklevel=4,
            )
