"""The settings of a selection of sentences; importing them costs no torch."""

from dataclasses import dataclass
from typing import Annotated

from cliptd.data.pairs.pair import OnBadSample
from cliptd.utils.options import shown_default


@dataclass(kw_only=True)
class SentenceSelection:
    """The settings of a selection. Give one of `keep`, `share` and `least`.

    Raises:
        ValueError: a value is out of range, or none or several of the three are given.
    """

    keep: Annotated[int | None, shown_default("none; one of the three is needed")] = None
    """Select this many sentences, those with the highest scores."""
    share: Annotated[float | None, shown_default("none; one of the three is needed")] = None
    """Select this share of the distinct sentences instead, above 0 to 1."""
    least: Annotated[float | None, shown_default("none; one of the three is needed")] = None
    """Select the sentences with at least this score instead, a cosine."""
    neighbours: int = 1
    """A sentence's score is its mean cosine to this many nearest images."""
    pool: int = 100_000
    """Most images to compare with, which are in memory at once. From more images, this many are drawn."""
    chunk: int = 4096
    """Number of sentences that are scored together. A kill costs each process one such chunk."""
    seed: int = 0
    """Decides the drawn images."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at an image or a sample of a shard that cannot be read (raise), or skip it and list it in bad_samples.txt
    (skip)."""

    def __post_init__(self) -> None:
        given = [name for name in ("keep", "share", "least") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {', '.join(given) or 'none'} of keep, share and least; give one of them")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, expected above 0 and at most 1")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"keep is {self.keep}, expected at least 1")
        if self.chunk < 1 or not 1 <= self.neighbours <= self.pool:
            raise ValueError(
                f"found chunk {self.chunk}, neighbours {self.neighbours} and a pool of {self.pool}; expected at least "
                "1 of each, and no more neighbours than images"
            )
