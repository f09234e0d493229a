"""Distil a dual encoder's embeddings into a smaller one; writes an open_clip folder, evaluated zero-shot as it goes.

Without --data: the embedded benchmark with its own teacher, and a student of half its size that inherits from it.

    accelerate launch scripts/distill_embeddings.py
    accelerate launch scripts/distill_embeddings.py --teacher ViT-B-16 --pretrained openai --student ViT-S-16 \\
        --data 'shards/{000..099}.tar' --zero-shot imagenet/val --batch-size 1024
    accelerate launch scripts/distill_embeddings.py --teacher ViT-B-32 --pretrained openai --data shards.tar \\
        --progressive 0.75 0.5 0.25 --learned-masks --zero-shot imagenet/val
    accelerate launch scripts/distill_embeddings.py --objective reinforced --student MobileCLIP-S1 --data shards.tar \\
        --reinforced reinforced --zero-shot imagenet/val  # see reinforce_dataset.py; no teacher is loaded
    accelerate launch scripts/distill_embeddings.py --objective reinforced --student MobileCLIP-S1 \\
        --data 'DataCompDR/*.tar' --pictures datacomp --zero-shot imagenet/val  # the public shards
    accelerate launch scripts/distill_embeddings.py --objective dime-fm --freeze text --teacher ViT-L-14 \\
        --pretrained openai --student ViT-B-32 --images photos --sentences 'sentences/*.txt' --zero-shot imagenet/val \\
        --source store --crop 0.5 1.0  # images and sentences that never met; the text tower is the teacher's

Without --zero-shot on data of your own the last step's model is kept. DIME-FM's towers one after the other: first the
image tower as above, then --freeze image --teacher RUN_DIR/model, whose text tower the new one takes the place of.
"""

import dataclasses
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro

from cliptd.data.identity import wherever
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.compression import compress
from cliptd.embedding.config import Distillation, tiny_clip_training
from cliptd.embedding.distillation import distil
from cliptd.embedding.first_student import inheriting_student, named_student
from cliptd.embedding.model_card import write_model_card
from cliptd.embedding.student import Student, load_student
from cliptd.evaluation.objectnet import labelled_images
from cliptd.evaluation.zero_shot import TEMPLATES, read_templates, zero_shot
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.dataset import ReinforcedDataset
from cliptd.reinforcement.loading import load_reinforced
from cliptd.reinforcement.training import distil_reinforced
from cliptd.teachers import load_teacher
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from cliptd.training import TrainingConfig, TrainingResult, make_accelerator
from cliptd.unpaired.images_and_sentences import ImagesOf, TextsOf, UnpairedPairs, load_images, load_sentences
from cliptd.utils.environment import environment
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import print_table
from tasks.command_line import command, parse_options
from tasks.iconworld.files.classes import TEMPLATES as ICON_TEMPLATES
from tasks.iconworld.files.classes import of_families
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.models import TEACHER

SHOWN = ("top1", "top5", "mean_per_class")


@dataclass(kw_only=True)
class DistillEmbeddings(Distillation):
    """Who learns from whom, on what."""

    teacher: str | None = None
    """An open_clip name, hf-hub: and the id of an open_clip model, or a folder; hf: and the id or folder of a
    transformers CLIP; several joined by commas are an ensemble. None: the embedded benchmark's, on its own data."""
    pretrained: str | None = None
    """open_clip's tag of the teacher's weights."""
    precision: str = "fp32"
    """Of the teacher: fp32, fp16 or bf16."""
    student: str | None = None
    """An open_clip name, folder or .json config; without weights it starts fresh. None: inherited from the teacher."""
    student_pretrained: str | None = None
    """open_clip's tag of the student's weights; None: a named student starts fresh."""
    share: float | None = None
    """Without a student: the share of the teacher's matrices that it inherits; None: half."""
    progressive: tuple[float, ...] = ()
    """Instead: stages, shares of the first student (None: the teacher), such as 0.75 0.5 0.25."""
    learned_masks: bool = False
    """Each stage learns which channels, heads and units go, instead of taking leading ones, in as many steps before
    it is distilled in as many."""
    data: str | None = None
    """Pairs: shards ('data/{000..099}.tar'), a .csv or .tsv, a folder, a table. None: the embedded benchmark."""
    csv_img_key: str = "filepath"
    """The column of image paths (or images)."""
    csv_caption_key: str = "title"
    """The column of texts, also of a shard's .json."""
    csv_separator: str | None = None
    """Of a CSV. None: a tab for .tsv, else a comma."""
    reinforced: Path | None = None
    """What reinforce_dataset.py wrote beside the data, for the reinforced objective; None: the data are its shards, or
    public ones (DataCompDR)."""
    pictures: Path | None = None
    """A folder of KEY.jpg and KEY.txt for public reinforced shards, which bring none."""
    images: str | None = None
    """Instead of pairs: images, a folder or shards, for DIME-FM or another loss that needs no pairs."""
    sentences: str | None = None
    """With images: sentences, text files (one a line, 'corpus/*.txt.gz') or shards."""
    zero_shot: Path | None = None
    """A folder with a folder of images for each class, on which the best step is chosen. None: on iconworld its own
    pictures; else the last step is kept."""
    templates: Path | None = None
    """Prompt templates for zero-shot, a line each with "{}" where the class name goes."""
    run_dir: Path = Path("runs/distill_embeddings")
    """Everything the run writes, the model in RUN_DIR/model; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig]

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.images is None) != (self.sentences is None):
            raise ValueError("give images and sentences both, or neither")
        if self.images is not None and self.data is not None:
            raise ValueError("give pairs (data), or images and sentences, not both")
        if self.on_iconworld and self.zero_shot is not None:
            raise ValueError(
                "zero_shot goes with data (or images and sentences) of your own; iconworld has its pictures"
            )
        if self.teacher_name is None and self.student is None:
            raise ValueError("name a teacher, or a student that does not inherit from one")
        if self.teacher_name is None and self.objective != "reinforced" and self.loss_weights.needs_teacher:
            raise ValueError(f"name a teacher: {self.objective} compares the student with one")
        if self.objective == "reinforced" and self.data is None and self.reinforced is None:
            raise ValueError(
                "the reinforced objective needs reinforced data: reinforced, such as runs/reinforced, which "
                "reinforce_dataset.py wrote, or data that are public shards"
            )
        without_effect = {
            "reinforced": self.reinforced is not None and self.objective != "reinforced",
            "pictures": self.pictures is not None
            and (self.objective != "reinforced" or self.reinforced is not None),
            "teacher": self.teacher is not None
            and self.objective == "reinforced"
            and self.student is not None,
            "pretrained": self.pretrained is not None and self.teacher is None,
            "student_pretrained": self.student_pretrained is not None and self.student is None,
            "towers": self.towers != ("image", "text") and not self.progressive,
            "images": self.images is not None and self.objective == "reinforced",
            "progressive": bool(self.progressive) and self.objective == "reinforced",
            "learned_masks": self.learned_masks and not self.progressive,
            "how": self.how != "even"
            and (self.learned_masks or (self.student is not None and not self.progressive)),
            "share": self.share is not None and (bool(self.progressive) or self.student is not None),
            "templates": self.templates is not None and self.zero_shot is None,
        }
        for name, found in without_effect.items():
            if found:
                raise ValueError(f"{name} has no effect here; see --help for what it belongs to")
        if not self.on_iconworld and self.zero_shot is None:  # nothing says which step is the best
            eval_every = (
                self.training.eval_every if self.learned_masks else 0
            )  # which tell how sparse they are
            self.training = dataclasses.replace(self.training, metric=None, eval_every=eval_every)
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, expected above 0 to 1")

    @property
    def teacher_name(self) -> str | None:
        """The teacher's, if there is one."""
        return str(TEACHER) if self.teacher is None and self.on_iconworld else self.teacher

    @property
    def on_iconworld(self) -> bool:
        """Whether there is no data of the user's."""
        return self.data is None and self.images is None


def icon_training() -> TrainingConfig:
    """A first run: minutes on a CPU."""
    return TrainingConfig(
        steps=300, batch_size=64, lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
        eval_every=100, save_every=100, metric="top1",
    )  # fmt: skip


def parse_command(arguments: list[str]) -> DistillEmbeddings:
    """Parse the command line; on iconworld a first run takes minutes, on the user's data TinyCLIP's recipe holds."""
    own_data = any(argument.split("=")[0] in ("--data", "--images") for argument in arguments)
    icons = {"training": icon_training(), "ramp_steps": 150, "mask_lr": 0.1}  # masks close in 300 steps, too
    default = DistillEmbeddings(**({"training": tiny_clip_training()} if own_data else icons))
    return parse_options(DistillEmbeddings, arguments, default=default, description=__doc__)


@command
def main(arguments: list[str]) -> None:
    asked = parse_command(arguments)
    accelerator = make_accelerator(asked.training, asked.run_dir)
    evaluate = _evaluation(asked)
    options = {"run_dir": asked.run_dir / "run", "evaluate": evaluate, "accelerator": accelerator}
    if asked.objective == "reinforced":
        student, dataset = _first_student(asked), _reinforced(asked)
        starts_from = "fresh weights" if student.fresh else student.name
        rows = [_row(student, distil_reinforced(student, dataset, asked, **options))]
        teachers = [card.name for card in dataset.card.teachers]
    else:
        teacher, rows = None, []
        if asked.teacher_name is not None:
            options_of_teacher = {"device": accelerator.device, "precision": asked.precision}
            teacher = load_teacher(asked.teacher_name, asked.pretrained, **options_of_teacher)
            if accelerator.is_main_process:
                rows.append({"model": f"teacher {wherever(teacher.name)}", **evaluate(teacher)})
        student, pairs = _first_student(asked, teacher), _pairs(asked)
        starts_from = "fresh weights" if student.fresh else student.name
        teachers = [] if teacher is None else [member.name for member in teacher.members]
        if asked.progressive:
            shrinking = {"learned_masks": asked.learned_masks, **options, "run_dir": asked.run_dir}
            stages = compress(student, teacher, pairs, asked, asked.progressive, **shrinking)
            rows += [{"model": f"stage {row['share']:g}", **row} for row in stages]
            student = load_student(str(asked.run_dir / f"stage-{asked.progressive[-1]:g}" / "model"))
        else:
            rows.append(_row(student, distil(student, teacher, pairs, asked, **options)))
    if accelerator.is_main_process:
        _save(student, asked, rows, starts_from, teachers)
        print_table(rows, title="zero-shot, in percent")
        print(conclusion(rows))
        model = asked.run_dir / "model"
        print(f"Model: {model.resolve()}")
        print(f"Next: python scripts/evaluate_clip.py --model {model} --zero-shot FOLDER")
        print(f"      python scripts/export.py --model {model} --out {asked.run_dir / 'onnx'}")


def _row(student: Student, result: TrainingResult) -> dict[str, Any]:
    return {
        "model": student.name,
        "parameters": student.parameters,
        "best_step": result.best_step,
        **result.best_metrics,
    }


def _pairs(asked: DistillEmbeddings) -> MapStyle[Pair]:
    bad = {"on_bad_sample": asked.on_bad_sample}
    if asked.images is not None:
        sentences = load_sentences(asked.sentences, text_column=asked.csv_caption_key, **bad)
        return UnpairedPairs(load_images(asked.images, **bad), sentences, seed=asked.training.seed)
    if asked.on_iconworld and asked.takes_the_place:  # pictures of some scenes, sentences about others
        return UnpairedPairs(ImagesOf(IconworldPairs()), TextsOf(IconworldPairs(seed=1)))
    if asked.data is None:
        return IconworldPairs()
    columns = {"image_column": asked.csv_img_key, "text_column": asked.csv_caption_key}
    return load_pairs(asked.data, **columns, separator=asked.csv_separator, **bad)


def _reinforced(asked: DistillEmbeddings) -> ReinforcedDataset:
    if asked.reinforced is not None:
        return ReinforcedStore(asked.reinforced, _pairs(asked))
    return load_reinforced(asked.data, pictures=asked.pictures, on_bad_sample=asked.on_bad_sample)


def _first_student(asked: DistillEmbeddings, teacher: Teacher | TeacherEnsemble | None = None) -> Student:
    if asked.student is not None:
        shrinks = bool(asked.progressive)
        return named_student(asked.student, asked.student_pretrained, asked, teacher=teacher, shrinks=shrinks)
    share = None if asked.progressive else (0.5 if asked.share is None else asked.share)
    return inheriting_student(str(asked.teacher_name), asked.pretrained, asked, share=share)


def _evaluation(asked: DistillEmbeddings):
    if asked.on_iconworld:
        families = {"": SEEN_FAMILIES, ", unseen families": UNSEEN_FAMILIES}
        sets = {suffix: of_families(names, 500) for suffix, names in families.items()}
        templates = ICON_TEMPLATES
    elif asked.zero_shot is None:
        return lambda model: {}
    else:
        sets = {"": labelled_images(asked.zero_shot)}
        templates = read_templates(asked.templates) if asked.templates else TEMPLATES

    def evaluate(model) -> dict[str, float]:
        found = {}
        for suffix, dataset in sets.items():
            scores = zero_shot(model, dataset, templates, on_bad_sample=asked.on_bad_sample)
            found |= {name + suffix: scores[name] for name in SHOWN if name in scores}
        return found

    return evaluate


def _save(
    student: Student,
    asked: DistillEmbeddings,
    rows: list[dict[str, Any]],
    starts_from: str,
    teachers: list[str],
) -> None:
    """Save the model with its card, and results.json with what it was made with."""
    student.save(asked.run_dir / "model")
    reinforced = asked.objective == "reinforced"
    losses = (
        ["reinforced"]
        if reinforced
        else [name for name, weight in vars(asked.loss_weights).items() if weight]
    )
    steps = f"{asked.training.steps} steps of {asked.training.batch_size} examples"
    if asked.progressive:
        steps += f" in each stage, shares {', '.join(f'{share:g}' for share in asked.progressive)}"
        steps += " (and as many again for its masks)" if asked.learned_masks else ""
    named = [name for name in (asked.data, asked.images, asked.sentences) if name is not None]
    settings = json.loads(json.dumps(asdict(asked), default=str)) | {"teacher": ", ".join(teachers)}
    write_model_card(
        asked.run_dir / "model",
        student,
        name=student.name,
        starts_from=starts_from,
        teachers=teachers if reinforced or asked.loss_weights.needs_teacher else [],
        losses=losses,
        data=named or ["iconworld"],
        training=steps,
        scores=rows,
        scored_on="iconworld" if asked.on_iconworld else asked.zero_shot and asked.zero_shot.name,
        settings=settings,
    )
    results = {"settings": settings, **environment(), "rows": rows}
    write_atomically(asked.run_dir / "results.json", json.dumps(results, indent=2) + "\n")


def conclusion(rows: list[dict[str, Any]]) -> str:
    """Say in one sentence how the student, the last row, compares with the teacher, the first."""
    teacher, student = rows[0], rows[-1]
    if len(rows) < 2 or None in (teacher.get("top1"), student.get("top1")):
        return "No zero-shot set was given, so nothing was scored; --zero-shot FOLDER scores the steps."
    return (
        f"{student['model']} reaches {student['top1']:.1f} % top-1 zero-shot, its teacher {teacher['top1']:.1f} % "
        "(one seed: not conclusive)."
    )


if __name__ == "__main__":
    main()
