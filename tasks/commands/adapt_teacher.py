"""Fine-tune a CLIP teacher contrastively on a task's own images and true texts, and save an open_clip folder.

The task's own options follow after "--", the same as those of finetune_TASK, the teacher among them. The teacher learns
from the items that such a run has labels for, and from no others. Without --data-root among them the items are the
embedded benchmark's. After a stop the same command goes on.

    accelerate launch scripts/adapt_teacher.py --task vcr --out teachers/vcr -- --data-root vcr1 --fraction 0.01 \\
        --teacher ViT-L-14 --pretrained openai
"""

import dataclasses
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.training.config import TrainingConfig
from tasks.command_line import as_started, command
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class AdaptTeacher:
    """Settings of one adaptation."""

    task: TaskName
    """The task."""
    out: Path
    """Folder of the adapted teacher. The log and the checkpoints go to OUT/run."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(default_factory=adaptation_defaults)


@command
def main(arguments: list[str]) -> None:
    asked, known, settings = parse(AdaptTeacher, __doc__, arguments)
    from cliptd.teachers import load_teacher
    from cliptd.training import make_accelerator
    from tasks.finetuning.adaptation import adapt_to_task

    run_dir = asked.out / "run"
    seeded = dataclasses.replace(settings.training, seed=asked.training.seed)  # draws the labelled items
    settings = dataclasses.replace(settings, test_sets=(), run_dir=run_dir, training=seeded)
    accelerator = make_accelerator(asked.training, run_dir)
    teacher = load_teacher(settings.teacher, settings.pretrained)
    task = known.task_class(settings, accelerator)
    finished = (asked.out / "adapted.json").exists()
    folder = adapt_to_task(teacher, task, asked.training, asked.out, accelerator)
    if accelerator.is_main_process:
        if finished and asked.training.resume == "auto":
            print(f"{folder} holds this adapted teacher, finished; nothing is trained again.")
        print(f"Adapted teacher: {folder.resolve()}")
        own = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
        given = shlex.join([*own, "--teacher", str(folder)])
        print(as_started(f"Next: python scripts/finetune_{asked.task}.py {given}"))


if __name__ == "__main__":
    main()
