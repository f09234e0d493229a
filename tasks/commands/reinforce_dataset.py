"""Reinforce a dataset once, for many small models: drawn crops, synthetic captions, teachers' embeddings of each.

Without --data: the embedded benchmark with its own teacher. Killed, the same command goes on from its whole shards.

    accelerate launch scripts/reinforce_dataset.py --scale 0.9 1 --ratio 1 1 --operations 0 \\
        --augmentations 5 --captions 2
    accelerate launch scripts/reinforce_dataset.py --data 'shards/{000..099}.tar' --out reinforced \\
        --teacher ViT-L-14,ViT-L-14 --pretrained openai,datacomp_xl_s13b_b90k \\
        --captioner Salesforce/blip-image-captioning-base

The first command is for the embedded benchmark, whose teacher knows wide crops only. Before it begins, the script says
how many of a few augmented pictures the teachers still know.

Then, beside the same data: distill_embeddings.py --objective reinforced --data 'shards/{000..099}.tar' \\
    --reinforced reinforced. With --layout public the shards hold all, and --data 'reinforced/*.tar' is enough.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from accelerate import Accelerator

from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.pair import Pair
from cliptd.reinforcement.captioner import Captioner
from cliptd.reinforcement.checks import check_replay, known_pictures
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.config import Reinforcement
from cliptd.reinforcement.making import bytes_of_a_pair, card_of, reinforce
from cliptd.reinforcement.public_layout import ReinforcedTars
from cliptd.teachers import load_teacher
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.training.acceleration import LONG_TIMEOUT
from tasks.command_line import command, parse_options
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import CAPTIONER, TEACHER

REPLAY_TOLERANCE = {"fp32": 2**-10, "fp16": 2**-7, "bf16": 2**-5}
"""Of an element of a unit embedding, by the teachers' precision: more than depends on the batch and on rounding."""


@dataclass(kw_only=True)
class ReinforceDataset(Reinforcement):
    """What is reinforced, by whom."""

    data: str | None = None
    """Pairs: shards ('data/{000..099}.tar'), a .csv or .tsv, a folder, a table. None: the embedded benchmark."""
    csv_img_key: str = "filepath"
    """The column of image paths (or images)."""
    csv_caption_key: str = "title"
    """The column of texts, also of a shard's .json."""
    csv_separator: str | None = None
    """Of a CSV. None: a tab for .tsv, else a comma."""
    teacher: Annotated[str, tyro.conf.arg(aliases=["--teachers"])] = str(TEACHER)
    """An open_clip name or folder, or hf: and the id or folder of a transformers CLIP; several joined by commas are an
    ensemble."""
    pretrained: str | None = None
    """open_clip's tag of the teacher's weights; joined by commas for an ensemble."""
    precision: str = "fp32"
    """Of the teacher: fp32, fp16 or bf16."""
    captioner: str | None = None
    """The id or folder of a transformers image-to-text model. None: no synthetic captions; on the embedded benchmark
    its own captioner, unless captions is 0."""
    top_p: float = 0.9
    """Of the captioner's sampling: the share of the likeliest tokens that it draws from."""
    caption_tokens: int = 40
    """At most in a caption."""
    check: int = 0
    """Samples, evenly spaced, whose stored embeddings are compared in the end with what the teachers make of the
    replayed crops here: on another machine, whether its decoder and its resizing give the same pixels."""
    out: Path = Path("runs/reinforced")
    """Folder of the reinforced dataset."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captioner is not None and not self.captions:
            raise ValueError("captions is 0, so the captioner would write none; leave one of the two out")
        if self.check < 0:
            raise ValueError(f"check is {self.check}, expected a number of samples")


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(ReinforceDataset, arguments, description=__doc__)
    accelerator = Accelerator(kwargs_handlers=[LONG_TIMEOUT])
    if asked.data is None:
        pairs = IconworldPairs()
    else:
        columns = {"image_column": asked.csv_img_key, "text_column": asked.csv_caption_key}
        pairs = load_pairs(
            asked.data, **columns, separator=asked.csv_separator, on_bad_sample=asked.on_bad_sample
        )
    teacher = load_teacher(
        asked.teacher, asked.pretrained, device=accelerator.device, precision=asked.precision
    )
    name = asked.captioner
    if name is None and asked.data is None and asked.captions:
        name = str(CAPTIONER)
    captioner = (
        None
        if name is None
        else Captioner(name, device=accelerator.device, top_p=asked.top_p, max_tokens=asked.caption_tokens)
    )
    captions = asked.captions if captioner is not None else 0
    size = bytes_of_a_pair(asked, pairs, teacher, captioner)
    there = len(list(asked.out.glob(f"reinforced-*.{'tar' if asked.layout == 'public' else 'safetensors'}")))
    accelerator.print(
        f"{len(pairs):,} pairs, {asked.augmentations} augmentations and {captions} captions each: about {size:,} bytes "
        f"a pair{', picture included' if asked.layout == 'public' else ''}, and texts; {size * len(pairs) / 2**30:.2f} "
        f"GiB in all. {there} of {-(-len(pairs) // asked.shard_size)} shards are there"
    )
    if accelerator.is_main_process:
        _say_what_is_known(asked, pairs, teacher)
    began = time.perf_counter()
    made = reinforce(pairs, teacher, asked, asked.out, captioner=captioner, accelerator=accelerator)
    seconds = time.perf_counter() - began
    accelerator.print(f"{made:,} images in {seconds:,.0f} s, {made / seconds:,.1f} images/s")
    accelerator.print(f"Reinforced dataset: {asked.out.resolve()}")
    if asked.check and accelerator.is_main_process:
        _check(asked, pairs, teacher)


def _say_what_is_known(
    asked: ReinforceDataset, pairs: Sequence[Pair], teacher: Teacher | TeacherEnsemble
) -> None:
    for known in known_pictures(pairs, teacher, card_of(asked, teacher, None).policy):
        print(
            f"{known.teacher} finds the own text among those of 64 at most for {known.whole:.0%} of {known.images} "
            f"whole and {known.augmented:.0%} of as many augmented pictures"
        )
        if known.augmented < known.whole / 2:
            print(
                "Warning: it does not know most augmented pictures, so what it says about them is mostly wrong; choose "
                "larger crops (--scale 0.9 1 --ratio 1 1), weaker operations (--magnitude) or none (--operations 0), "
                "or another teacher"
            )


def _check(asked: ReinforceDataset, pairs: Sequence[Pair], teacher: Teacher | TeacherEnsemble) -> None:
    if asked.layout == "public":
        dataset = ReinforcedTars(
            sorted(asked.out.glob("reinforced-*.tar")), on_bad_sample=asked.on_bad_sample
        )
    else:
        dataset = ReinforcedStore(asked.out, pairs)
    samples = sorted({k * len(dataset) // asked.check for k in range(asked.check)})
    largest = check_replay(dataset, teacher, samples)
    tolerance = REPLAY_TOLERANCE[asked.precision]
    if largest > tolerance:
        raise SystemExit(
            f"{len(samples)} samples differ by up to {largest:.2g} from what is stored, expected at most "
            f"{tolerance:.2g}: here pictures are decoded or resized otherwise, or the models differ; train "
            "where the data was reinforced, or reinforce it here"
        )
    print(f"{len(samples)} samples replayed: stored and computed embeddings differ by at most {largest:.2g}")


if __name__ == "__main__":
    main()
