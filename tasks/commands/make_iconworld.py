"""Write the embedded benchmark to a folder, in the tasks' official file formats.

python scripts/make_iconworld.py --out iconworld
"""

from dataclasses import dataclass, field
from pathlib import Path

from tasks.command_line import command, parse_options
from tasks.iconworld.files.captions import CaptionSizes, write_captions
from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.files.vcr import VcrSizes, write_vcr
from tasks.iconworld.files.vqa import VqaSizes, write_vqa


@dataclass
class MakeIconworld:
    """Settings of the benchmark's files."""

    out: Path
    """Folder to write to; the tasks' files go to OUT/vcr, OUT/vqa and OUT/snli_ve, captions to OUT/captions."""
    seed: int = 0
    """The same seed gives the same files."""
    vcr: VcrSizes = field(default_factory=VcrSizes)
    vqa: VqaSizes = field(default_factory=VqaSizes)
    snli_ve: SnliVeSizes = field(default_factory=SnliVeSizes)
    captions: CaptionSizes = field(default_factory=CaptionSizes)


@command
def main(arguments: list[str]) -> None:
    settings = parse_options(MakeIconworld, arguments, description=__doc__)
    print(write_vcr(settings.out / "vcr", seed=settings.seed, sizes=settings.vcr))
    print(write_vqa(settings.out / "vqa", seed=settings.seed, sizes=settings.vqa))
    print(write_snli_ve(settings.out / "snli_ve", seed=settings.seed, sizes=settings.snli_ve))
    print(write_captions(settings.out / "captions", seed=settings.seed, sizes=settings.captions))


if __name__ == "__main__":
    main()
