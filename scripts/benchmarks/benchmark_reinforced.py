"""Measure speed and size of reinforced data: the readers of both layouts against a plain reader of the same images.

The files are made here: JPEGs of noise that compresses as photographs do, with as many augmentations, captions and
dimensions as the public data have. A round reads the same samples each way, and the time ends with a batch's pixels and
tokens. "augmented" is the plain reader with torchvision's own random resized crop and RandAugment.

    python scripts/benchmarks/benchmark_reinforced.py --folder runs/reinforced_benchmark
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image
from torchvision.transforms import Compose, InterpolationMode, RandAugment, RandomResizedCrop

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.pairs.folder_pairs import FolderPairs
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.student import load_student
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.compact_part import write_part
from cliptd.reinforcement.dataset import CARD, Reinforced, ReinforcementCard, TeacherCard
from cliptd.reinforcement.public_layout import ReinforcedTars
from cliptd.reinforcement.public_layout_writer import write_tar
from cliptd.reinforcement.training import ReinforcedCollator, ReinforcedExamples
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import markdown_table, print_table


@dataclass
class BenchmarkReinforced:
    """Settings of the measurement."""

    folder: Path = Path("runs/reinforced_benchmark")
    """Folder of the files and the report."""
    samples: int = 256
    """Number of images."""
    width: int = 500
    """Width of an image in pixels. It is three quarters as high."""
    augmentations: int = 10
    """Augmentations of each image."""
    captions: int = 5
    """Captions of each image."""
    dims: tuple[int, ...] = (768, 768)
    """Dimensions of the teachers' embeddings."""
    student: str = "ViT-B-32"
    """An open_clip name or folder, whose transform and tokenizer are used."""
    batch_size: int = 32
    """Samples of a batch."""
    rounds: int = 5
    """Timed rounds, after one that does not count."""


def main(asked: BenchmarkReinforced) -> None:
    pairs = _write_pictures(asked)
    card, rows = _reinforced(asked, pairs)
    sizes = _write_layouts(asked, pairs, card, rows)
    student = load_student(asked.student)
    size = card.policy.size
    random_crop = RandomResizedCrop(size, scale=card.policy.scale, interpolation=InterpolationMode.BICUBIC)
    plain, reinforced = StudentTeacherCollator(student), ReinforcedCollator(student)
    store = ReinforcedStore(asked.folder / "compact", pairs)
    tars = ReinforcedTars([asked.folder / "public" / "reinforced-00000.tar"])
    ways: dict[str, tuple[Any, Callable]] = {
        "plain": (OpenedPairs(pairs, crop=random_crop), plain),
        "augmented": (OpenedPairs(pairs, crop=Compose([random_crop, RandAugment(2, 9)])), plain),
        "compact": (ReinforcedExamples(store, size), reinforced),
        "public": (ReinforcedExamples(tars, size), reinforced),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    order = np.random.default_rng(0).permutation(asked.samples)
    for number in range(asked.rounds + 1):
        for name, (examples, collate) in ways.items():
            start = time.perf_counter()
            for first in range(0, asked.samples, asked.batch_size):
                collate([examples[int(k)] for k in order[first : first + asked.batch_size]])
            if number:
                speeds[name].append(asked.samples / (time.perf_counter() - start))
    table = []
    for name, found in speeds.items():
        ratios = {
            f"× {other}": statistics.median(
                own / base for own, base in zip(found, speeds[other], strict=True)
            )
            for other in ("plain", "augmented")
        }
        table.append(
            {
                "reader": name,
                "samples/s": statistics.median(found),
                **ratios,
                "bytes a sample": sizes.get(name),
            }
        )
    title = f"{asked.samples} pictures with {asked.augmentations} augmentations and {asked.captions} captions"
    write_atomically(asked.folder / "report.md", f"{title}\n\n{markdown_table(table)}\n")
    print_table(table, title=title)


def _write_pictures(asked: BenchmarkReinforced) -> FolderPairs:
    folder = asked.folder / f"pictures-{asked.width}"
    folder.mkdir(parents=True, exist_ok=True)
    size = (asked.width, asked.width * 3 // 4)
    for number in range(asked.samples):
        path = folder / f"{number:06d}.jpg"
        if not path.with_suffix(".txt").exists():
            noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
            path.with_suffix(".txt").write_text(f"a picture of number {number} beside an old house")
    for path in list(folder.iterdir()):
        if int(path.stem) >= asked.samples:
            path.unlink()
    return FolderPairs(folder)


def _reinforced(
    asked: BenchmarkReinforced, pairs: FolderPairs
) -> tuple[ReinforcementCard, list[tuple[int, Reinforced]]]:
    """Return samples with random embeddings of unit length."""
    card = ReinforcementCard(
        teachers=tuple(TeacherCard(f"none {k}", None, dim, 100.0) for k, dim in enumerate(asked.dims)),
        policy=AugmentationPolicy(),
        augmentations=asked.augmentations,
        captions=asked.captions,
        captioner="none",
    )
    rng, rows = np.random.default_rng(0), []
    for position in range(len(pairs)):
        pair = pairs[position]
        picture = pair.image.dimensions()[::-1]
        drawn = tuple(card.policy.draw(picture, position * 100 + k) for k in range(asked.augmentations))
        embeds = rng.normal(size=(asked.augmentations + 1 + asked.captions, sum(asked.dims))).astype(
            np.float32
        )
        embeds /= np.linalg.norm(embeds, axis=1, keepdims=True)
        captions = tuple(f"a synthetic caption of some length, number {k}" for k in range(asked.captions))
        seen, read = embeds[: asked.augmentations], embeds[asked.augmentations :]
        rows.append((position, Reinforced(pair.key, pair.image, pair.text, captions, drawn, seen, read)))
    return card, rows


def _write_layouts(asked, pairs, card, rows) -> dict[str, int]:
    """Write both layouts and return the bytes of a sample in each, without its image and text."""
    for name in ("compact", "public"):
        (asked.folder / name).mkdir(exist_ok=True)
        write_atomically(asked.folder / name / CARD, card.to_json())
    write_part(asked.folder / "compact", 0, rows, first=0, end=len(pairs), bad=[], card=card)
    write_tar(asked.folder / "public" / "reinforced-00000.tar", rows, [])
    pictures = sum(path.stat().st_size for path in pairs.images)
    whole = {
        name: sum(p.stat().st_size for p in (asked.folder / name).iterdir()) for name in ("compact", "public")
    }
    return {"compact": whole["compact"] // len(pairs), "public": (whole["public"] - pictures) // len(pairs)}


if __name__ == "__main__":
    main(tyro.cli(BenchmarkReinforced, description=__doc__))
