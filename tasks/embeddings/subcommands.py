"""The command line of distill_embeddings.py: a subcommand for each objective, and --help with its settings only."""

import dataclasses
import difflib
import os
import sys
import typing
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import tyro

from cliptd.embedding.config import tiny_clip_training
from cliptd.embedding.options import ObjectiveName
from cliptd.training import TrainingConfig
from cliptd.utils.run_folder import differences
from tasks.command_line import parse_options
from tasks.embeddings.settings import DistillEmbeddings

ALWAYS = ("data", "csv_img_key", "csv_caption_key", "csv_separator", "on_bad_sample", "teacher", "pretrained",
          "student", "student_pretrained", "share", "how", "freeze", "zero_shot", "templates", "run_dir",
          "training")  # fmt: skip
"""Settings that every subcommand shows."""
TEACHING = ("precision", "source", "store", "crop", "crops")
UNPAIRED = ("images", "sentences")
STAGES = ("progressive", "learned_masks", "towers", "mask_lr", "ramp_steps")
SHARES = (0.75, 0.5, 0.25)
"""The stages of `compress` unless others are named."""


class Subcommand(NamedTuple):
    """An objective, or several: a line about it, a command line, and the settings that its --help shows.

    Attributes:
        about: what is trained.
        example: options of a run on data of the user's.
        shows: settings beside `ALWAYS`.
        objective: the objective that it names; None: it has others.
    """

    about: str
    example: str
    shows: tuple[str, ...]
    objective: ObjectiveName | typing.Literal["reinforced"] | None


_TAUGHT = "--teacher ViT-B-16 --pretrained openai --data 'shards/{000..099}.tar' --zero-shot imagenet/val"
_UNPAIRED = (
    "--teacher ViT-L-14 --pretrained openai --student ViT-B-32 --freeze text --images photos \\\n"
    "        --sentences 'sentences/*.txt' --source store --crop 0.5 1 --zero-shot imagenet/val"
)
SUBCOMMANDS = {
    "affinity": Subcommand(
        "TinyCLIP's affinity mimicking, the default", _TAUGHT,
        (*TEACHING, *UNPAIRED, "affinity_scale"), "affinity",
    ),
    "clip-kd": Subcommand(
        "CLIP-KD's mix of contrastive, feature, relation and interactive", _TAUGHT, TEACHING, "clip_kd"
    ),
    "feature": Subcommand(
        "the distance between the student's and the teacher's embeddings", _TAUGHT,
        (*TEACHING, *UNPAIRED), "feature",
    ),
    "relation": Subcommand(
        "CLIP-KD's contrastive relations of images and texts", _TAUGHT, (*TEACHING, *UNPAIRED), "relation"
    ),
    "interactive": Subcommand(
        "the student's images against the teacher's texts, and the other way round", _TAUGHT,
        TEACHING, "interactive",
    ),
    "contrastive": Subcommand(
        "CLIP's own loss: the student may inherit from a teacher, but is not taught by it", _TAUGHT,
        ("precision", "crop"), "contrastive",
    ),
    "sigmoid": Subcommand(
        "SigLIP's own loss: the student may inherit from a teacher, but is not taught by it", _TAUGHT,
        ("precision", "crop"), "sigmoid",
    ),
    "mix": Subcommand(
        "losses with weights of your own", f"--weights affinity 1 contrastive 0.5 {_TAUGHT}",
        (*TEACHING, *UNPAIRED, "weights", "affinity_scale", "dime_fm"), None,
    ),
    "dime-fm": Subcommand(
        "DIME-FM's losses, for images and sentences that are no pairs", _UNPAIRED,
        (*TEACHING, *UNPAIRED, "dime_fm"), "dime-fm",
    ),
    "reinforced": Subcommand(
        "MobileCLIP's loss on data from reinforce_dataset.py or DataCompDR, without a teacher",
        "--reinforced runs/reinforced --data 'shards/{000..099}.tar' --student MobileCLIP-S1",
        ("reinforced", "pictures", "distill_weight", "synthetic_captions"), "reinforced",
    ),
    "compress": Subcommand(
        "stages: shrink the student, train it with one of the losses, shrink it again",
        f"--shares 0.75 0.5 0.25 --learned-masks {_TAUGHT}",
        (*TEACHING, *UNPAIRED, *STAGES, "objective", "weights", "affinity_scale", "dime_fm"), None,
    ),
}  # fmt: skip
"""The subcommands by name."""


def parse_command(arguments: Sequence[str], about: str | None) -> DistillEmbeddings:
    """Parse a command line, whose first word may be a subcommand.

    `affinity …` is short for `--objective affinity …`, and `compress …` for `--progressive 0.75 0.5 0.25 …`.

    Args:
        about: what --help says without a subcommand.

    Raises:
        ValueError: the subcommand does not exist or contradicts the options, or a setting is refused.
    """
    arguments = list(arguments)
    name = arguments.pop(0).replace("_", "-") if arguments and not arguments[0].startswith("-") else None
    if name is not None and name not in SUBCOMMANDS:
        near = difflib.get_close_matches(name, SUBCOMMANDS, n=1) or SUBCOMMANDS
        raise ValueError(f"there is no subcommand {name!r}; nearest: {', '.join(near)}")
    named = {argument.split("=")[0].replace("_", "-") for argument in arguments}
    own_data = bool(named & {"--data", "--images"})
    default = _defaults(own_data)
    if {"-h", "--help"} & named:
        _show_help(name, default, about)
    if name is not None:
        arguments += _options_of(name, named)
    settings = parse_options(DistillEmbeddings, arguments, default=default, description=about)
    if own_data and os.environ.get("RANK", "0") == "0":
        _say_changed_defaults(default.training)
    return settings


def _defaults(own_data: bool) -> DistillEmbeddings:
    """Return settings that take minutes on the embedded benchmark, or TinyCLIP's recipe for the user's data."""
    if not own_data:  # masks close in 300 steps, too
        return DistillEmbeddings(training=icon_training(), ramp_steps=150, mask_lr=0.1)
    return DistillEmbeddings(training=tiny_clip_training())


def icon_training() -> TrainingConfig:
    """Return training settings of a first run, which takes minutes on a CPU."""
    return TrainingConfig(
        steps=300, batch_size=64, lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
        eval_every=100, save_every=100, metric="top1",
    )  # fmt: skip


def _options_of(name: str, named: set[str]) -> list[str]:
    """Return the options that a subcommand is short for."""
    objective = SUBCOMMANDS[name].objective
    if objective is not None:
        for other in ("--objective", "--weights"):
            if other in named:
                raise ValueError(f"{name} names the objective, and so does {other}; remove one of them")
        return ["--objective", objective]
    if name == "mix" and "--weights" not in named:
        raise ValueError("mix needs --weights, such as --weights affinity 1 contrastive 0.5")
    if name == "compress" and not named & {"--progressive", "--shares"}:
        return ["--progressive", *map(str, SHARES)]
    return []


def _show_help(name: str | None, default: DistillEmbeddings, about: str | None) -> None:
    """Print the help of a subcommand, or of the plain command, and exit."""
    program = sys.argv[0]
    if name is None:
        lines = "\n".join(f"    {each:<12} {one.about}" for each, one in SUBCOMMANDS.items())
        about = (
            f"{about}\nSubcommands; --help after one shows its settings:\n\n{lines}\n\nSettings of affinity:"
        )
    else:
        launched = f"accelerate launch scripts/distill_embeddings.py {name} {SUBCOMMANDS[name].example}"
        about = f"{SUBCOMMANDS[name].about}.\n\n    {launched}"
        program = f"{program} {name}"
    if name == "compress":
        default = dataclasses.replace(default, progressive=SHARES)
    shown = _showing({*ALWAYS, *SUBCOMMANDS[name or "affinity"].shows, *(() if name else ("objective",))})
    parse_options(shown, ["--help"], default=shown(**vars(default)), description=about, prog=program)


def _showing(names: set[str]) -> type[DistillEmbeddings]:
    """Return the settings' class with all settings hidden from --help that are not among the names."""
    hints = typing.get_type_hints(DistillEmbeddings, include_extras=True)
    fields = dataclasses.fields(DistillEmbeddings)
    unknown = names - {one.name for one in fields}
    assert not unknown, f"no settings: {unknown}"
    hidden: list[Any] = [
        (one.name, Annotated[hints[one.name], tyro.conf.Suppress], _same(one))
        for one in fields
        if one.name not in names
    ]
    return dataclasses.make_dataclass("DistillEmbeddings", hidden, bases=(DistillEmbeddings,), kw_only=True)


def _same(one: "dataclasses.Field[Any]") -> Any:
    if one.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=one.default_factory)
    return dataclasses.field(default=one.default)


def _say_changed_defaults(training: TrainingConfig) -> None:
    """Say which defaults differ from those of a first run, which is on the embedded benchmark."""
    shown = ("steps", "batch_size", "lr", "warmup_steps", "num_workers")
    theirs, ours = ({name: getattr(one, name) for name in shown} for one in (icon_training(), training))
    found = differences(theirs, ours)
    changed = [line.replace(" there, ", " on the embedded benchmark, ") for line in found]
    print(f"Defaults for your own data: {'; '.join(changed)}.", file=sys.stderr)
