"""Let a teacher look at a task's training set once and keep what it saw.

What follows "--" are the task's own options, as of finetune_TASK.py: the same data, teacher and distillation settings;
without --data-root among them: the embedded benchmark. After a kill the same command goes on. With --store OUT training
then asks the teacher nothing.

    python scripts/build_store.py --task vcr --out stores/vcr -- --data-root vcr1 --teacher ViT-L-14 --pretrained openai
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path

from cliptd.store.reader import KINDS, TeacherStore
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from tasks.command_line import command
from tasks.finetuning.teacher_source import build_store
from tasks.finetuning.training_material import TrainingMaterial
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class BuildStore:
    """What to build."""

    task: TaskName
    """Which task; its own options follow after "--"."""
    out: Path
    """The store's folder."""


@command
def main(arguments: list[str]) -> None:
    asked, known, settings = parse(BuildStore, __doc__, arguments)
    settings = dataclasses.replace(settings, test_sets=(), run_dir=asked.out / "run")
    accelerator = make_accelerator(settings.training, settings.run_dir)
    material = TrainingMaterial(settings, known.task_class(settings, accelerator))
    teacher = load_teacher(settings.teacher, settings.pretrained, device=accelerator.device)
    old = _counts(asked.out)
    before = time.perf_counter()
    for method in settings.methods:
        config = settings.method_config(method)
        if config.distils:
            build_store(asked.out, teacher, config, material.questions)
    seconds = time.perf_counter() - before
    new = _counts(asked.out)
    size = sum(file.stat().st_size for file in asked.out.iterdir() if file.is_file())
    report = {
        "store": str(asked.out),
        "fingerprint": teacher.fingerprint,
        **new,
        "megabytes": round(size / 1e6, 1),
        "seconds": round(seconds, 1),
        **{f"{kind}_per_second": round((new[kind] - old[kind]) / seconds, 1) for kind in KINDS},
    }
    print(json.dumps(report, indent=2))


def _counts(path: Path) -> dict[str, int]:
    """How many embeddings of each kind a store holds; 0 where there is no store yet."""
    if not (path / "index.json").exists():
        return dict.fromkeys(KINDS, 0)
    return TeacherStore.open(path).counts


if __name__ == "__main__":
    main()
