"""Let a teacher look at VCR's training set once and keep what it saw.

Takes finetune_vcr.py's options: the same data, teacher and distillation settings. After a kill the same command
goes on; finetune_vcr.py --store STORE then trains without asking the teacher anything.

    python scripts/build_store.py --data-root vcr1 --teacher ViT-L-14 --pretrained openai --store stores/vitl14
"""

import json
import time
from pathlib import Path

from accelerate import PartialState

from cliptd.store import TeacherStore
from cliptd.teachers import load_teacher
from tasks.iconworld.defaults import vcr_settings_from_command_line
from tasks.vcr.finetune import build_store, load_collate
from tasks.vcr.split import training_sets


def main() -> None:
    settings = vcr_settings_from_command_line(__doc__)
    training_set, _, _ = training_sets(settings.data, settings.seed)
    path = settings.store or settings.run_dir / "store"
    teacher = load_teacher(settings.teacher, settings.pretrained, device=PartialState().device)
    old_images, old_texts = _counts(path)
    before = time.perf_counter()
    collate = load_collate(settings)
    for method in settings.methods:
        config = settings.method_config(method)
        if config.distils:
            build_store(path, teacher, config, training_set, collate)
    seconds = time.perf_counter() - before
    images, texts = _counts(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    print(
        json.dumps(
            {
                "store": str(path),
                "fingerprint": teacher.fingerprint,
                "images": images,
                "texts": texts,
                "megabytes": round(size / 1e6, 1),
                "seconds": round(seconds, 1),
                "images_per_second": round((images - old_images) / seconds, 1),
                "texts_per_second": round((texts - old_texts) / seconds, 1),
            },
            indent=2,
        )
    )


def _counts(path: Path) -> tuple[int, int]:
    """Images and texts in a store; none where there is no store yet."""
    if not (path / "index.json").exists():
        return 0, 0
    store = TeacherStore.open(path)
    return len(list(store.images)), len(list(store.texts))


if __name__ == "__main__":
    main()
