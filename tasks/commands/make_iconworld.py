"""Write the embedded benchmark to a folder, in the tasks' official file formats.

python scripts/make_iconworld.py --out iconworld
"""

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tasks.command_line import as_started, command, parse_options
from tasks.iconworld.files.captions import CaptionSizes, write_captions
from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.files.vcr import VcrSizes, write_vcr
from tasks.iconworld.files.vqa import VqaSizes, write_vqa
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER


@dataclass
class MakeIconworld:
    """Settings of the benchmark's files."""

    out: Path
    """Folder to write to. The tasks' files go to OUT/vcr, OUT/vqa and OUT/snli_ve, the captions to OUT/captions."""
    seed: int = 0
    """The same seed gives the same files."""
    vcr: VcrSizes = field(default_factory=VcrSizes)
    vqa: VqaSizes = field(default_factory=VqaSizes)
    snli_ve: SnliVeSizes = field(default_factory=SnliVeSizes)
    captions: CaptionSizes = field(default_factory=CaptionSizes)


@command
def main(arguments: list[str]) -> None:
    settings = parse_options(MakeIconworld, arguments, description=__doc__)
    out, seed = settings.out, settings.seed
    print("Writing images and files, about a minute in all.", file=sys.stderr, flush=True)
    print(f"VCR: {write_vcr(out / 'vcr', seed=seed, sizes=settings.vcr)}", flush=True)
    print(f"VQA: {write_vqa(out / 'vqa', seed=seed, sizes=settings.vqa)}", flush=True)
    print(f"SNLI-VE: {write_snli_ve(out / 'snli_ve', seed=seed, sizes=settings.snli_ve)}", flush=True)
    print(f"Captions: {write_captions(out / 'captions', seed=seed, sizes=settings.captions)}")
    shipped = ("--student", STUDENT, "--regions", f"local-dir:{REGIONS}", "--teacher", TEACHER)
    given = (
        "--data-root",
        out / "vcr",
        "--no-known-classes",
        *shipped,
        "--teacher-boxes",
        "alone",
        "--items",
        200,
    )
    print(as_started(f"Next: python scripts/finetune_vcr.py {shlex.join(map(str, given))}"))


if __name__ == "__main__":
    main()
