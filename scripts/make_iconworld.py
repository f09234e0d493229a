"""Write the embedded benchmark to a folder, in the tasks' official file formats.

python scripts/make_iconworld.py --out iconworld
"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from tasks.iconworld.vcr import VcrSizes, write_vcr


@dataclass
class MakeIconworld:
    """Settings of the benchmark's files."""

    out: Path
    """Folder to write to; VCR's files go to OUT/vcr."""
    seed: int = 0
    """The same seed gives the same files."""
    vcr: VcrSizes = field(default_factory=VcrSizes)


def main(settings: MakeIconworld) -> None:
    print(write_vcr(settings.out / "vcr", seed=settings.seed, sizes=settings.vcr))


if __name__ == "__main__":
    main(tyro.cli(MakeIconworld))
