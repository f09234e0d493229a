"""Write which training items each low-shot split labels, with the hash of their ids.

Splits of one seed are nested, stratified and the same on every machine. Validation shares no image with them. The
task's own options follow after "--", the same as those of finetune_TASK. Without --data-root among them the items are
the embedded benchmark's.

    python scripts/make_splits.py --task vqa --fractions 0.01 0.05 0.1 1.0 --seeds 0 1 2 --out splits -- --data-root vqa
"""

import dataclasses
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from tasks.command_line import as_started, command
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class MakeSplits:
    """Which splits to write."""

    task: TaskName
    """The task."""
    out: Path
    """Folder of the files TASK_FRACTION_seedSEED.json."""
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 1.0)
    """Shares of the training items that are labelled."""
    seeds: tuple[int, ...] = (0,)
    """Each seed draws items of its own."""

    def __post_init__(self) -> None:
        for name in ("fractions", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty, expected at least one")
        for share in self.fractions:
            if not 0 < share <= 1:
                raise ValueError(
                    f"fractions holds {share}, expected shares above 0 and at most 1, such as 0.01"
                )


@command
def main(arguments: list[str]) -> None:
    splits, known, base = parse(MakeSplits, __doc__, arguments)
    from cliptd.utils.files import write_atomically
    from cliptd.utils.tables import print_table

    splits.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in splits.seeds:
        for fraction in splits.fractions:
            data = dataclasses.replace(base.data, fraction=fraction, items=None)
            labelled, validation, description = known.training_sets(data, seed)
            path = splits.out / f"{splits.task}_{fraction:g}_seed{seed}.json"
            content = {"task": splits.task, "fraction": fraction, "seed": seed, **description}
            content |= {"labelled": known.item_ids(labelled), "validation": known.item_ids(validation)}
            write_atomically(path, json.dumps(content) + "\n")
            rows.append(
                {
                    "file": path.name,
                    "labelled": len(content["labelled"]),
                    "hash": description["training_hash"],
                }
            )
    print_table(rows, title=f"{splits.task}: {base.data.data_root}")
    print(f"Splits: {splits.out.resolve()}")
    own = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    given = shlex.join([*own, "--fraction", f"{splits.fractions[0]:g}", "--seed", str(splits.seeds[0])])
    print(as_started(f"Next: python scripts/finetune_{splits.task}.py {given}"))


if __name__ == "__main__":
    main()
