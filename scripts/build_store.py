"""Let a teacher look at VCR's training set once and keep what it saw.

Takes finetune_vcr.py's options: the same data, teacher and distillation settings. After a kill the same command
goes on; finetune_vcr.py --store STORE then trains without asking the teacher anything.

    python scripts/build_store.py --data-root vcr1 --teacher ViT-L-14 --pretrained openai --store stores/vitl14
"""

import json
import time
from pathlib import Path

from accelerate import PartialState

from cliptd.store import KINDS, TeacherStore
from cliptd.teachers import load_teacher
from tasks.iconworld.defaults import from_command_line, vcr_root, vcr_settings
from tasks.teacher_source import TeacherQuestions, build_store
from tasks.vcr.split import training_sets
from tasks.vcr.task import load_collate


def main() -> None:
    settings = from_command_line(vcr_settings(), vcr_root, __doc__)
    training_set, _, _ = training_sets(settings.data, settings.seed)
    path = settings.store or settings.run_dir / "store"
    teacher = load_teacher(settings.teacher, settings.pretrained, device=PartialState().device)
    old = _counts(path)
    before = time.perf_counter()
    collate = load_collate(settings)
    for method in settings.methods:
        config = settings.method_config(method)
        if config.distils:
            build_store(path, teacher, config, TeacherQuestions((training_set, collate)))
    seconds = time.perf_counter() - before
    new = _counts(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    print(
        json.dumps(
            {
                "store": str(path),
                "fingerprint": teacher.fingerprint,
                **new,
                "megabytes": round(size / 1e6, 1),
                "seconds": round(seconds, 1),
                **{f"{kind}_per_second": round((new[kind] - old[kind]) / seconds, 1) for kind in KINDS},
            },
            indent=2,
        )
    )


def _counts(path: Path) -> dict[str, int]:
    """How many embeddings of each kind a store holds; 0 where there is no store yet."""
    if not (path / "index.json").exists():
        return dict.fromkeys(KINDS, 0)
    store = TeacherStore.open(path)
    return {kind: len(list(getattr(store, kind))) for kind in KINDS}


if __name__ == "__main__":
    main()
