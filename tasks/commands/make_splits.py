"""Write which training items each low-shot split labels, with the hash of their ids.

Splits of one seed are nested, stratified and the same on every machine; validation shares no image with them. What
follows "--" are the task's own options, as of finetune_TASK.py; without --data-root among them: the embedded benchmark.

    python scripts/make_splits.py --task vqa --fractions 0.01 0.05 0.1 1.0 --seeds 0 1 2 --out splits -- --data-root vqa
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from cliptd.utils.files import write_atomically
from cliptd.utils.tables import print_table
from tasks.command_line import command
from tasks.known_tasks import TaskName, parse
from tasks.snli_ve.settings import training_sets as snli_ve_sets
from tasks.vcr.split import training_sets as vcr_sets
from tasks.vqa.settings import training_sets as vqa_sets

SETS = {
    "vcr": (vcr_sets, lambda dataset: dataset.column("annot_id")),
    "vqa": (vqa_sets, lambda dataset: dataset.column("question_id")),
    "snli_ve": (snli_ve_sets, lambda dataset: dataset.unique_ids()),
}


@dataclass(kw_only=True)
class MakeSplits:
    """Which splits to write."""

    task: TaskName
    """Which task; its own options follow after "--"."""
    out: Path
    """Folder of the files TASK_FRACTION_seedSEED.json."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    """Shares of the training items that are labelled."""
    seeds: tuple[int, ...] = (0,)
    """Each draws its own items."""


@command
def main(arguments: list[str]) -> None:
    splits, _, base = parse(MakeSplits, __doc__, arguments)
    training_sets, ids_of = SETS[splits.task]
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
