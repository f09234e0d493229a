"""Let a teacher look at a task's training set once and keep its embeddings in a store.

The task's own options follow after "--", the same as those of finetune_TASK: the data, the teacher, the distillation
settings. Without --data-root among them the data are the embedded benchmark's. After a stop the same command goes on.
With --store OUT training then asks the teacher nothing.

    python scripts/build_store.py --task vcr --out stores/vcr -- --data-root vcr1 --teacher ViT-L-14 --pretrained openai
"""

import dataclasses
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.command_line import as_started, command
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class BuildStore:
    """What to build."""

    task: TaskName
    """The task."""
    out: Path
    """Folder of the store."""


@command
def main(arguments: list[str]) -> None:
    asked, known, settings = parse(BuildStore, __doc__, arguments)
    configs = [settings.method_config(method) for method in settings.methods]
    if not any(config.distils for config in configs):
        raise ValueError(
            f"methods are {' '.join(settings.methods)}, and none of them distils; name one that does, such as targeted"
        )
    from cliptd.store.reader import KINDS
    from cliptd.teachers import load_teacher
    from cliptd.training import make_accelerator
    from tasks.finetuning.teacher_source import build_store
    from tasks.finetuning.training_material import TrainingMaterial

    settings = dataclasses.replace(settings, test_sets=(), run_dir=asked.out / "run")
    accelerator = make_accelerator(settings.training, settings.run_dir)
    teacher = load_teacher(settings.teacher, settings.pretrained, device=accelerator.device)
    material = TrainingMaterial(settings, known.task_class(settings, accelerator))
    old = _counts(asked.out)
    before = time.perf_counter()
    for config in configs:
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
    if new == old:
        print("The store held everything already.")
    print(f"Store: {asked.out.resolve()}")
    own = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    given = shlex.join([*own, "--store", str(asked.out)])
    print(as_started(f"Next: python scripts/finetune_{asked.task}.py {given}"))


def _counts(path: Path) -> dict[str, int]:
    """Return how many embeddings of each kind a store holds; 0 if there is no store yet."""
    from cliptd.store.reader import KINDS, TeacherStore

    if not (path / "index.json").exists():
        return dict.fromkeys(KINDS, 0)
    return TeacherStore.open(path).counts


if __name__ == "__main__":
    main()
