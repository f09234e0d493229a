"""Let a teacher look at VCR's training set once and keep what it saw.

Takes finetune_vcr.py's options: the same data, teacher and distillation settings. After a kill the same command
goes on; finetune_vcr.py --store STORE then trains without asking the teacher anything.

    python scripts/build_store.py --data-root vcr1 --teacher ViT-L-14 --pretrained openai --store stores/vitl14
"""

import dataclasses
import json
import sys
import time

import tyro
from accelerate import PartialState

from cliptd.store import TeacherStore
from cliptd.teachers import load_teacher
from tasks.iconworld.defaults import vcr_root, vcr_settings
from tasks.vcr.finetune import FinetuneVcr, build_store, load_collate, training_sets


def main() -> None:
    own_data = any(argument.split("=")[0] in ("--data-root", "--data_root") for argument in sys.argv)
    settings = tyro.cli(FinetuneVcr, default=None if own_data else vcr_settings(), description=__doc__)
    if not own_data:
        settings = dataclasses.replace(settings, data_root=vcr_root())
    training_set, _, _ = training_sets(settings)
    path = settings.store or settings.run_dir / "store"
    teacher = load_teacher(settings.teacher, settings.pretrained, device=PartialState().device)
    before = time.perf_counter()
    for method in settings.methods:
        config = settings.method_config(method)
        if config.distils:
            build_store(path, teacher, config, training_set, load_collate(settings))
    seconds = time.perf_counter() - before
    store = TeacherStore.open(path)
    images, texts = len(list(store.images)), len(list(store.texts))
    size = sum(file.stat().st_size for file in path.iterdir())
    print(
        json.dumps(
            {
                "store": str(path),
                "fingerprint": store.fingerprint,
                "images": images,
                "texts": texts,
                "megabytes": round(size / 1e6, 1),
                "seconds": round(seconds, 1),
                "images_per_second": round(images / seconds, 1),
                "texts_per_second": round(texts / seconds, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
