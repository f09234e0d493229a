"""Write which training items each low-shot split labels, with the hash that every run writes beside its results.

Splits of one seed are nested, stratified and the same on every machine; validation shares no image with them. What
follows "--" are the task's own options, as of finetune_TASK.py; without --data-root among them: the embedded benchmark.

    python scripts/make_splits.py --task vqa --fractions 0.01 0.05 0.1 1.0 --seeds 0 1 2 --out splits -- --data-root vqa
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cliptd.report import print_table
from cliptd.training.files import write_atomically
from tasks.iconworld.defaults import (
    from_command_line,
    snli_ve_root,
    snli_ve_settings,
    vcr_root,
    vcr_settings,
    vqa_root,
    vqa_settings,
)
from tasks.snli_ve.settings import training_sets as snli_ve_sets
from tasks.vcr.split import training_sets as vcr_sets
from tasks.vqa.settings import training_sets as vqa_sets

TASKS = {
    "vcr": (vcr_settings, vcr_root, vcr_sets, lambda dataset: dataset.column("annot_id")),
    "vqa": (vqa_settings, vqa_root, vqa_sets, lambda dataset: dataset.column("question_id")),
    "snli_ve": (snli_ve_settings, snli_ve_root, snli_ve_sets, lambda dataset: dataset.column("pair_id")),
}


@dataclass(kw_only=True)
class MakeSplits:
    """Which splits to write."""

    task: Literal["vcr", "vqa", "snli_ve"]
    """Which task; its own options follow after "--"."""
    out: Path
    """Folder of the files TASK_FRACTION_seedSEED.json."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    """Shares of the training items that are labelled."""
    seeds: tuple[int, ...] = (0,)
    """Each draws its own items."""


def main() -> None:
    own = sys.argv[1:]
    end = own.index("--") if "--" in own else len(own)
    splits = tyro.cli(MakeSplits, args=own[:end], description=__doc__)
    settings, root, training_sets, ids_of = TASKS[splits.task]
    base = from_command_line(settings(), root, f"The task's options of {splits.task}.", own[end + 1 :])
    splits.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in splits.seeds:
        for fraction in splits.fractions:
            data = dataclasses.replace(base.data, fraction=fraction, items=None)
            labelled, validation, description = training_sets(data, seed)
            path = splits.out / f"{splits.task}_{fraction:g}_seed{seed}.json"
            content = {"task": splits.task, "fraction": fraction, "seed": seed, **description}
            content |= {"labelled": ids_of(labelled), "validation": ids_of(validation)}
            write_atomically(path, json.dumps(content) + "\n")
            rows.append(
                {
                    "file": path.name,
                    "labelled": len(content["labelled"]),
                    "hash": description["training_hash"],
                }
            )
    print_table(rows, title=f"{splits.task}: {base.data.data_root}")


if __name__ == "__main__":
    main()
