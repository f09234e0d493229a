"""Write an HTML page of a few training instances: image, answer, words by score, what is kept, weights, probabilities.

The task's own options follow after "--", the same as those of finetune_TASK. With --student RUN/METHOD/student among
them the page shows what that trained student answers. With --store the words are selected by the store's mean image, as
in a run that reads it; otherwise a teacher is asked.

    python scripts/inspect_selection.py --task vcr --out selection.html
    python scripts/inspect_selection.py --task vqa -- --student runs/vqa/targeted/student
"""

from dataclasses import dataclass
from pathlib import Path

from cliptd.targeted.config import Method
from tasks.command_line import command
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class InspectSelection:
    """What to show."""

    task: TaskName
    """The task."""
    out: Path = Path("selection.html")
    """The page."""
    method: Method = "targeted"
    """Method whose selection is shown."""
    instances: int = 12
    """The first ones of the labelled training set."""

    def __post_init__(self) -> None:
        if self.instances < 1:
            raise ValueError(f"instances is {self.instances}, expected at least 1")


@command
def main(arguments: list[str]) -> None:
    asked, known, settings = parse(InspectSelection, __doc__, arguments)
    from cliptd.utils.files import write_atomically
    from tasks.finetuning.inspection import inspect_selection

    page, trained = inspect_selection(settings, known, asked.method, asked.instances)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.out, page)
    print(f"Page: {asked.out.resolve()}")
    if not trained:
        print(
            "Next: the same command with --student RUN/METHOD/student after --, to see what that student answers"
        )
    else:
        print(
            f"Next: the same command with another --method than {asked.method}, to see what that one selects"
        )


if __name__ == "__main__":
    main()
