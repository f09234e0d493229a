"""Distil a dual encoder's embeddings into a smaller one; writes an open_clip folder, evaluated zero-shot as it goes.

Without --data: the embedded benchmark with its own teacher, and a student of half its size that inherits from it.

    accelerate launch scripts/distill_embeddings.py
    accelerate launch scripts/distill_embeddings.py --teacher ViT-B-16 --pretrained openai --student ViT-S-16 \\
        --data 'shards/{000..099}.tar' --zero-shot imagenet/val --batch-size 1024
    accelerate launch scripts/distill_embeddings.py --teacher ViT-B-32 --pretrained openai --data shards.tar \\
        --progressive 0.75 0.5 0.25 --learned-masks
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from cliptd.compression import compress
from cliptd.data.pairs import load_pairs
from cliptd.distillation import Distillation, distil, tiny_clip_training
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.student import Student, load_student
from cliptd.evaluation.image_folder import ImageFolder
from cliptd.evaluation.zero_shot import TEMPLATES, read_templates, zero_shot
from cliptd.open_clip_teacher import WEIGHTS
from cliptd.report import markdown_table, print_table
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator
from cliptd.training.files import write_atomically
from tasks.iconworld.classes import TEMPLATES as ICON_TEMPLATES
from tasks.iconworld.classes import of_families
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.models import TEACHER
from tasks.iconworld.pairs import IconworldPairs

SHOWN = ("top1", "top5", "mean_per_class")


@dataclass(kw_only=True)
class DistillEmbeddings(Distillation):
    """Who learns from whom, on what."""

    teacher: str = str(TEACHER)
    """An open_clip name or folder, or hf: and the id or folder of a transformers CLIP; several joined by commas are an
    ensemble."""
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
    """Each stage learns which channels, heads and units go, instead of taking leading ones."""
    data: str | None = None
    """Pairs: shards ('data/{000..099}.tar'), a .csv or .tsv, a folder, a table. None: the embedded benchmark."""
    csv_img_key: str = "filepath"
    """The column of image paths (or images)."""
    csv_caption_key: str = "title"
    """The column of texts, also of a shard's .json."""
    csv_separator: str | None = None
    """Of a CSV. None: a tab for .tsv, else a comma."""
    zero_shot: Path | None = None
    """A folder with a folder of images for each class, on which the best step is chosen."""
    templates: Path | None = None
    """Prompt templates for zero-shot, a line each with "{}" where the class name goes."""
    run_dir: Path = Path("runs/distill_embeddings")
    """Everything the run writes, the model in RUN_DIR/model; the same command resumes there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig]

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data is None) != (self.zero_shot is None):
            raise ValueError(
                "give data and zero_shot both, a folder of classes to choose the best step by, or neither: iconworld"
            )
        without_effect = {
            "learned_masks": self.learned_masks and not self.progressive,
            "share": self.share is not None and (bool(self.progressive) or self.student is not None),
            "templates": self.templates is not None and self.zero_shot is None,
        }
        for name, found in without_effect.items():
            if found:
                raise ValueError(f"{name} has no effect here; see --help for what it belongs to")
        if self.progressive and self.student is not None and not self._student_has_weights:
            raise ValueError(
                "progressive stages inherit, so the first student needs weights; leave student out"
            )

    @property
    def _student_has_weights(self) -> bool:
        return self.student_pretrained is not None or (Path(self.student) / WEIGHTS).is_file()


def icon_training() -> TrainingConfig:
    """A first run: minutes on a CPU."""
    return TrainingConfig(
        steps=300, batch_size=64, lr=1e-3, weight_decay=0.2, betas=(0.9, 0.98), clip_norm=5.0, warmup_steps=30,
        eval_every=100, save_every=100, metric="top1",
    )  # fmt: skip


def main(asked: DistillEmbeddings) -> None:
    accelerator = make_accelerator(asked.training, asked.run_dir)
    teacher = load_teacher(
        asked.teacher, asked.pretrained, device=accelerator.device, precision=asked.precision
    )
    student = _first_student(asked, teacher)
    if asked.data is None:
        pairs = IconworldPairs()
    else:
        columns = {"image_column": asked.csv_img_key, "text_column": asked.csv_caption_key}
        pairs = load_pairs(
            asked.data, **columns, separator=asked.csv_separator, on_bad_sample=asked.on_bad_sample
        )
    evaluate = _evaluation(asked)
    options = {"run_dir": asked.run_dir, "evaluate": evaluate, "accelerator": accelerator}
    if asked.progressive:
        rows = compress(
            student, teacher, pairs, asked, asked.progressive, learned_masks=asked.learned_masks, **options
        )
        student = load_student(str(asked.run_dir / f"stage-{asked.progressive[-1]:g}" / "model"))
    else:
        result = distil(student, teacher, pairs, asked, **{**options, "run_dir": asked.run_dir / "run"})
        rows = [{"parameters": student.parameters, "best_step": result.best_step, **result.best_metrics}]
    if accelerator.is_main_process:
        rows = [{"model": f"teacher {teacher.name}", **evaluate(teacher)}, *rows]
        _save(student, asked, rows)
        print_table(rows, title="zero-shot, in percent")
        print(f"Model: {(asked.run_dir / 'model').resolve()}")


def _first_student(asked: DistillEmbeddings, teacher) -> Student:
    if asked.student is not None:
        of_teacher = teacher if hasattr(teacher, "config") else None
        return load_student(
            asked.student, asked.student_pretrained, teacher=of_teacher, seed=asked.training.seed
        )
    if not hasattr(teacher, "config"):
        raise ValueError(f"{asked.teacher} is no single open_clip model to inherit from; name a student")
    student = load_student(asked.teacher, asked.pretrained)
    if not asked.progressive:
        share = asked.share or 0.5
        config = share_config(student.config["model_cfg"], share)
        model = inherit_weights(student.model, config)
        student = Student(
            model,
            {**student.config, "model_cfg": config},
            student.tokenizer,
            f"{share:g} of {student.name}",
        )
    return student


def _evaluation(asked: DistillEmbeddings):
    if asked.data is None:
        families = {"": SEEN_FAMILIES, ", unseen families": UNSEEN_FAMILIES}
        sets = {suffix: of_families(names, 500) for suffix, names in families.items()}
        templates = ICON_TEMPLATES
    else:
        sets = {"": ImageFolder(asked.zero_shot)}
        templates = read_templates(asked.templates) if asked.templates else TEMPLATES

    def evaluate(model) -> dict[str, float]:
        found = {}
        for suffix, dataset in sets.items():
            scores = zero_shot(model, dataset, templates, on_bad_sample=asked.on_bad_sample)
            found |= {name + suffix: scores[name] for name in SHOWN if name in scores}
        return found

    return evaluate


def _save(student: Student, asked: DistillEmbeddings, rows: list[dict]) -> None:
    """The model, and a card of how it was made."""
    student.save(asked.run_dir / "model")
    settings = json.loads(json.dumps(asdict(asked), default=str))
    card = {"settings": settings, "parameters": student.parameters, "zero_shot_percent": rows}
    write_atomically(asked.run_dir / "model" / "card.json", json.dumps(card, indent=2) + "\n")
    text = (
        f"# {student.name}\n\nDistilled by cliptd from {asked.teacher} "
        f"({', '.join(name for name, weight in vars(asked.loss_weights).items() if weight)}) on "
        f"{asked.data or 'iconworld'}: {asked.training.steps} steps of {asked.training.batch_size} pairs. An ordinary "
        '`open_clip` folder: `open_clip.create_model_and_transforms("local-dir:…")`. Zero-shot, in percent:\n\n'
        f"{markdown_table(rows)}\n\nAll settings are in card.json.\n"
    )
    write_atomically(asked.run_dir / "model" / "README.md", text)


if __name__ == "__main__":
    import sys

    own_data = any(argument.split("=")[0] == "--data" for argument in sys.argv[1:])
    icons = {"training": icon_training(), "ramp_steps": 150, "mask_lr": 0.1}  # masks close in 300 steps, too
    default = DistillEmbeddings(**({"training": tiny_clip_training()} if own_data else icons))
    main(tyro.cli(DistillEmbeddings, default=default, description=__doc__))
