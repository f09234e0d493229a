"""The reinforcement of a dataset for many students: crops, captions, embeddings (MobileCLIP, arXiv 2311.17049)."""

import itertools
import json
import math
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tqdm import tqdm

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.identity import identity_of
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.compact_part import bytes_of, read_part, shapes_of, write_part
from cliptd.reinforcement.config import Layout, Reinforcement
from cliptd.reinforcement.dataset import BAD, CARD, Reinforced, ReinforcementCard, TeacherCard
from cliptd.reinforcement.public_layout_writer import image_file, write_tar
from cliptd.reinforcement.samples import Captions, SampleMaker
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.utils.files import write_atomically
from cliptd.utils.read_ahead import batches, read_ahead
from cliptd.utils.run_folder import refuse_other_settings, remember_settings, remembered_settings


def card_of(
    settings: Reinforcement, teacher: Teacher | TeacherEnsemble, captioner: Captions | None
) -> ReinforcementCard:
    """Return the description of the dataset that these models will make."""
    members = teacher.members
    return ReinforcementCard(
        teachers=tuple(TeacherCard(m.name, m.fingerprint, m.embed_dim, m.logit_scale) for m in members),
        policy=AugmentationPolicy(
            size=settings.size or max(member.pixel_shape[-1] for member in members),
            scale=settings.scale,
            ratio=settings.ratio,
            operations=settings.operations,
            magnitude=settings.magnitude,
        ),
        augmentations=settings.augmentations,
        captions=settings.captions if captioner is not None else 0,
        captioner=captioner.name if captioner is not None else None,
    )


def bytes_of_a_pair(
    settings: Reinforcement,
    pairs: MapStyle[Pair],
    teacher: Teacher | TeacherEnsemble,
    captioner: Captions | None,
) -> int:
    """Estimate the bytes on disk of a pair without its texts.

    Public shards also hold the images, so a few of these are read.
    """
    card = card_of(settings, teacher, captioner)
    if settings.layout == "compact":
        return sum(math.prod(shape) * bytes_of(name) for name, shape in shapes_of(card).items())
    images = []
    for k in range(0, len(pairs), max(1, len(pairs) // 16)):
        with suppress(ValueError, OSError):  # `reinforce` reports it
            images.append(len(image_file(pairs[k].image)[1]))
    embeddings = 4 * sum(card.embed_dims) * (card.augmentations + 1 + card.captions)
    members = 6 * 1024  # each of a sample's six files has a head and half a block of padding
    return round(sum(images) / max(1, len(images))) + embeddings + 60 * card.augmentations + members


def reinforce(
    pairs: MapStyle[Pair],
    teacher: Teacher | TeacherEnsemble,
    settings: Reinforcement,
    out: str | Path,
    *,
    captioner: Captions | None = None,
    accelerator: Accelerator | None = None,
) -> int:
    """Write the reinforced dataset. Shards that exist are not made again.

    One process makes each shard, which appears complete or not at all. A shard depends only on its pairs, the settings
    and the models, so after a kill at any moment the same call ends in the same bytes. bad_samples.txt lists the pairs
    that could not be read, and those in the pairs' `skipped` if they have it.

    Args:
        pairs: a map-style data set, cut into shards of `settings.shard_size`.
        teacher: a teacher, or an ensemble, whose members' embeddings lie side by side.
        out: the folder of the dataset.
        captioner: writes synthetic captions. None: there are none.
        accelerator: shares the shards between its processes.

    Returns: the number of pairs that all processes together read in this call.

    Raises:
        ValueError: the folder holds another reinforcement, a pair cannot be read, or an embedding is not finite.
    """
    if not len(pairs):
        raise ValueError("the data holds no pair; give at least one")
    out, card = Path(out), card_of(settings, teacher, captioner)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        _begin(out, card, settings, pairs, captioner)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    skipped = _reasons(out, settings.layout)
    if skipped and settings.on_bad_sample == "raise":
        raise ValueError(
            f"{skipped[0]} ({len(skipped)} such, skipped when the folder was begun with 'skip'); use 'skip' again, or "
            "mend the pairs and use another folder"
        )
    numbers = range(rank, -(-len(pairs) // settings.shard_size), processes)
    shards = {
        number: range(number * settings.shard_size, min((number + 1) * settings.shard_size, len(pairs)))
        for number in numbers
        if not _shard(out, settings.layout, number).exists()
    }
    images = sum(map(len, shards.values()))
    maker = SampleMaker(
        pairs, teacher, captioner, card, seed=settings.seed, on_bad_sample=settings.on_bad_sample
    )
    found = read_ahead(maker.read, itertools.chain.from_iterable(shards.values()), ahead=settings.chunk)
    bar = tqdm(total=images, desc="reinforced", unit=" images", mininterval=1, disable=rank > 0)
    with closing(found), bar:
        for number, positions in shards.items():
            rows: list[tuple[int, Reinforced]] = []
            bad: list[str] = []
            for some in batches(itertools.islice(found, len(positions)), settings.chunk):
                good, reasons = maker.make(some)
                rows += good
                bad += reasons
                bar.update(len(some))
            if settings.layout == "public":
                write_tar(_shard(out, "public", number), rows, bad)
            else:
                part = {"first": positions.start, "end": positions.stop}
                write_part(out, number, rows, **part, bad=bad, card=card)
    if accelerator is not None:
        accelerator.wait_for_everyone()
    if rank == 0:
        reasons = [*getattr(pairs, "skipped", ()), *_reasons(out, settings.layout)]
        write_atomically(out / BAD, "".join(f"{line}\n" for line in reasons).encode())
        if reasons:
            print(f"{len(reasons)} samples were skipped, see {out / BAD}")
    if accelerator is None:
        return images
    return int(accelerator.reduce(torch.tensor(images, device=accelerator.device), reduction="sum"))


def _begin(
    out: Path,
    card: ReinforcementCard,
    settings: Reinforcement,
    pairs: MapStyle[Pair],
    captioner: Captions | None,
) -> None:
    """Write the card of a new dataset, or compare the card of one that is there.

    Raises:
        ValueError: the folder holds another reinforcement.
    """
    described = json.loads(card.to_json())
    described["made_of"] = {
        "layout": settings.layout,
        "shard_size": settings.shard_size,
        "seed": settings.seed,
        "captioner": getattr(captioner, "fingerprint", None),
        "data": identity_of(pairs),
    }
    there = remembered_settings(out / CARD, "reinforce the data again in another folder")
    if there is None:
        remember_settings(out / CARD, described)
        return
    refuse_other_settings(
        out,
        _by_fingerprints(there),
        _by_fingerprints(described),
        holds="another reinforcement",
        remedy="use another folder",
    )


def _by_fingerprints(described: dict[str, Any]) -> dict[str, Any]:
    """Return the description without the names of teachers, whose folders may have moved."""
    teachers = [
        {k: v for k, v in teacher.items() if k != "name"} for teacher in described.get("teachers", ())
    ]
    return {**described, "teachers": teachers}


def _shard(out: Path, layout: Layout, number: int) -> Path:
    return out / f"reinforced-{number:05d}.{'tar' if layout == 'public' else 'safetensors'}"


def _reasons(out: Path, layout: Layout) -> list[str]:
    if layout == "compact":
        return [line for path in sorted(out.glob("reinforced-*.safetensors")) for line in read_part(path).bad]
    listed = sorted(out.glob("reinforced-*.bad.json"))
    return [line for path in listed for line in json.loads(path.read_text(encoding="utf-8"))]
