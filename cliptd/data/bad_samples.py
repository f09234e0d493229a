"""Samples that could not be read: their stand-in, and the file that lists them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class BadSample:
    """The stand-in for a sample that could not be read, with the reason."""

    reason: str


class BadSampleList:
    """A file with the reason of each skipped sample, one line each, without repeats. path None: no file is written."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._listed: set[str] | None = None

    def good(self, samples: Sequence[Sample | BadSample]) -> list[Sample]:
        """Return the samples of a batch that could be read, and list the others. Raises ValueError if there is none."""
        bad = [sample.reason for sample in samples if isinstance(sample, BadSample)]
        self.add(bad)
        found = [sample for sample in samples if not isinstance(sample, BadSample)]
        if not found:
            raise ValueError(
                f"none of the {len(samples)} samples of a batch could be read; the first: {bad[0]}"
            )
        return found

    def add(self, reasons: Iterable[str]) -> None:
        """Write the reasons that are not in the file yet."""
        reasons = list(dict.fromkeys(reasons))
        if not reasons or self.path is None:
            return
        if self._listed is None:
            known = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            self._listed = set(known.splitlines())
        new = [reason for reason in reasons if reason not in self._listed]
        self._listed.update(new)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(reason + "\n" for reason in new))
