"""Fine-tune a CLIP teacher contrastively on a task's own images and true texts; saves an open_clip folder.

What follows "--" are the task's own options, as of finetune_TASK.py, the teacher among them; it learns from the very
items that such a run has labels for, no others. Without --data-root among them: the embedded benchmark.

    accelerate launch scripts/adapt_teacher.py --task vcr --out teachers/vcr -- --data-root vcr1 --fraction 0.01 \\
        --teacher ViT-L-14 --pretrained openai
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cliptd.teachers import load_teacher
from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.training import TrainingConfig, make_accelerator
from tasks.command_line import command
from tasks.finetuning.adaptation import adapt_to_task
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class AdaptTeacher:
    """Settings of one adaptation."""

    task: TaskName
    """Which task; its own options follow after "--"."""
    out: Path
    """Where the adapted open_clip folder goes; its log and checkpoints go to OUT/run."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(default_factory=adaptation_defaults)


@command
def main(arguments: list[str]) -> None:
    asked, known, settings = parse(AdaptTeacher, __doc__, arguments)
    run_dir = asked.out / "run"
    seeded = dataclasses.replace(settings.training, seed=asked.training.seed)  # draws the labelled items
    settings = dataclasses.replace(settings, test_sets=(), run_dir=run_dir, training=seeded)
    accelerator = make_accelerator(asked.training, run_dir)
    task = known.task_class(settings, accelerator)
    teacher = load_teacher(settings.teacher, settings.pretrained)
    folder = adapt_to_task(teacher, task, asked.training, asked.out, accelerator)
    if accelerator.is_main_process:
        print(folder)


if __name__ == "__main__":
    main()
