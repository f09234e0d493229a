"""Reinforce a dataset once, for many small models: drawn crops, synthetic captions, teachers' embeddings of each.

Without --data: the embedded benchmark with its own teacher. After a kill the same command goes on from its whole
shards.

    accelerate launch scripts/reinforce_dataset.py --scale 0.9 1 --ratio 1 1 --operations 0 \\
        --augmentations 5 --captions 2
    accelerate launch scripts/reinforce_dataset.py --data 'shards/{000..099}.tar' --out reinforced \\
        --teacher ViT-L-14,ViT-L-14 --pretrained openai,datacomp_xl_s13b_b90k \\
        --captioner Salesforce/blip-image-captioning-base

The first command is for the embedded benchmark, whose teacher knows wide crops only. Before it begins, the command says
how many of a few augmented images the teachers still recognise.

Then distil beside the same data. With --layout public the shards hold everything, and --data 'reinforced/*.tar' is
enough.

    accelerate launch scripts/distill_embeddings.py reinforced --data 'shards/{000..099}.tar' \\
        --reinforced reinforced --student MobileCLIP-S1
"""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.config import Reinforcement
from cliptd.teachers.precision import Precision
from cliptd.utils.options import shown_default
from tasks.command_line import as_started, command, parse_options
from tasks.iconworld.models import CAPTIONER, TEACHER

if TYPE_CHECKING:
    from cliptd.teachers.ensemble import TeacherEnsemble
    from cliptd.teachers.teacher import Teacher

REPLAY_TOLERANCE = {"fp32": 2**-10, "fp16": 2**-7, "bf16": 2**-5}
"""The largest difference in an element of a unit embedding that batches and rounding explain, by precision."""


@dataclass(kw_only=True)
class ReinforceDataset(Reinforcement):
    """What is reinforced, and by whom."""

    data: Annotated[str | None, shown_default("the embedded benchmark")] = None
    """Pairs: shards ('data/{000..099}.tar'), a .csv or .tsv, a folder, or a table."""
    csv_img_key: str = "filepath"
    """Column of image paths (or images)."""
    csv_caption_key: str = "title"
    """Column of texts, also the key in a shard's .json."""
    csv_separator: Annotated[str | None, shown_default("a tab for .tsv, else a comma")] = None
    """Separator of a .csv or .tsv."""
    teacher: Annotated[str | None, shown_default("the embedded benchmark's", aliases=["--teachers"])] = None
    """The name of an open_clip model, the path of an open_clip folder, or hf: and the id or folder of a transformers
    CLIP. Several joined by commas are an ensemble."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """open_clip's tag of the teacher's weights, joined by commas for an ensemble."""
    precision: Precision = "fp32"
    """Numbers that the teacher computes with."""
    captioner: Annotated[
        str | None, shown_default("the embedded benchmark's own on its data, else no synthetic captions")
    ] = None
    """The id or folder of a transformers image-to-text model that writes synthetic captions."""
    top_p: float = 0.9
    """Share of the likeliest tokens that the captioner draws from."""
    caption_tokens: int = 40
    """Most tokens in a caption."""
    check: int = 0
    """Number of samples, evenly spaced, to compute again at the end and to compare with what is stored. On another
    machine this says whether its decoder and its resizing give the same pixels."""
    out: Path = Path("runs/reinforced")
    """Folder of the reinforced dataset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captioner is not None and not self.captions:
            raise ValueError("--captions is 0, so --captioner would write none; remove one of the two")
        if self.check < 0:
            raise ValueError(f"check is {self.check}, expected a number of samples")

    @property
    def captioner_name(self) -> str | None:
        """Return the name of the captioner, or None if no captions are written."""
        own = self.data is None and self.captions > 0
        return str(CAPTIONER) if self.captioner is None and own else self.captioner


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(ReinforceDataset, arguments, description=__doc__)
    from accelerate import Accelerator

    from cliptd.reinforcement.captioner import Captioner
    from cliptd.reinforcement.making import bytes_of_a_pair, reinforce
    from cliptd.teachers import load_teacher
    from cliptd.training.acceleration import LONG_TIMEOUT

    accelerator = Accelerator(kwargs_handlers=[LONG_TIMEOUT])
    pairs = _pairs(asked)
    if asked.data is not None and asked.teacher is None:
        accelerator.print(
            "note: the embedded benchmark's small teacher reinforces your data; name your own with --teacher"
        )
    teacher = load_teacher(
        asked.teacher or str(TEACHER), asked.pretrained, device=accelerator.device, precision=asked.precision
    )
    name, captioner = asked.captioner_name, None
    if name is not None:
        captioner = Captioner(
            name, device=accelerator.device, top_p=asked.top_p, max_tokens=asked.caption_tokens
        )
    size = bytes_of_a_pair(asked, pairs, teacher, captioner)
    there = len(list(asked.out.glob(f"reinforced-*.{'tar' if asked.layout == 'public' else 'safetensors'}")))
    shards = -(-len(pairs) // asked.shard_size)
    accelerator.print(
        f"{len(pairs):,} pairs, {asked.augmentations} augmentations and {asked.captions if captioner else 0} captions "
        f"each: about {size:,} bytes a pair{', image included' if asked.layout == 'public' else ''}, and texts; "
        f"{size * len(pairs) / 2**30:.2f} GiB in all. {there} of {shards} shards are there"
    )
    if accelerator.is_main_process and there < shards:
        _say_what_is_known(asked, pairs, teacher)
    began = time.perf_counter()
    made = reinforce(pairs, teacher, asked, asked.out, captioner=captioner, accelerator=accelerator)
    seconds = time.perf_counter() - began
    if there < shards:
        accelerator.print(f"{made:,} images in {seconds:,.0f} s, {made / seconds:,.1f} images/s")
    else:
        accelerator.print("All shards were there; nothing was reinforced again.")
    if asked.check and accelerator.is_main_process:
        _check(asked, pairs, teacher)
    accelerator.print(f"Reinforced dataset: {asked.out.resolve()}")
    accelerator.print(as_started(f"Next: {_next(asked)}"))


def _pairs(asked: ReinforceDataset) -> MapStyle[Pair]:
    """Return the pairs to reinforce.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read; the message names the file.
    """
    if asked.data is None:
        from tasks.iconworld.files.pairs import IconworldPairs

        return IconworldPairs()
    from cliptd.data.pairs.loading import load_pairs

    return load_pairs(
        asked.data,
        image_column=asked.csv_img_key,
        text_column=asked.csv_caption_key,
        separator=asked.csv_separator,
        on_bad_sample=asked.on_bad_sample,
    )


def _say_what_is_known(
    asked: ReinforceDataset, pairs: MapStyle[Pair], teacher: "Teacher | TeacherEnsemble"
) -> None:
    """Say how many augmented images each teacher still recognises, and warn if these are few."""
    from cliptd.reinforcement.checks import known_pictures
    from cliptd.reinforcement.making import card_of

    for known in known_pictures(pairs, teacher, card_of(asked, teacher, None).policy):
        print(
            f"{known.teacher} finds the own text among those of 64 at most for {known.whole:.0%} of {known.images} "
            f"whole and {known.augmented:.0%} of as many augmented images"
        )
        if known.augmented < known.whole / 2:
            print(
                "Warning: it does not recognise most augmented images, so what it says about them is mostly wrong; "
                "choose larger crops (--scale 0.9 1 --ratio 1 1), weaker operations (--magnitude) or none "
                "(--operations 0), or another teacher"
            )


def _check(asked: ReinforceDataset, pairs: MapStyle[Pair], teacher: "Teacher | TeacherEnsemble") -> None:
    """Compute some samples again and compare them with what is stored.

    Raises:
        ValueError: they differ by more than rounding explains.
    """
    from cliptd.reinforcement.checks import check_replay
    from cliptd.reinforcement.compact_layout import ReinforcedStore
    from cliptd.reinforcement.dataset import ReinforcedDataset
    from cliptd.reinforcement.public_layout import ReinforcedTars

    dataset: ReinforcedDataset
    if asked.layout == "public":
        shards = sorted(asked.out.glob("reinforced-*.tar"))
        dataset = ReinforcedTars(shards, on_bad_sample=asked.on_bad_sample)
    else:
        dataset = ReinforcedStore(asked.out, pairs)
    samples = sorted({k * len(dataset) // asked.check for k in range(asked.check)})
    largest = check_replay(dataset, teacher, samples)
    tolerance = REPLAY_TOLERANCE[asked.precision]
    if largest > tolerance:
        raise ValueError(
            f"{len(samples)} samples differ by up to {largest:.2g} from what is stored, expected at most "
            f"{tolerance:.2g}: here images are decoded or resized otherwise, or the models differ; train "
            "where the data was reinforced, or reinforce it here"
        )
    print(f"{len(samples)} samples replayed: stored and computed embeddings differ by at most {largest:.2g}")


def _next(asked: ReinforceDataset) -> str:
    """Return the command that trains a student on the reinforced dataset."""
    out = shlex.quote(str(asked.out))
    data = f"--reinforced {out}" + (f" --data {shlex.quote(asked.data)}" if asked.data is not None else "")
    if asked.layout == "public":
        data = f"--data {shlex.quote(f'{asked.out}/*.tar')}"
    student = "" if asked.data is None and asked.layout == "compact" else " --student MobileCLIP-S1"
    return f"accelerate launch scripts/distill_embeddings.py reinforced {data}{student}"


if __name__ == "__main__":
    main()
