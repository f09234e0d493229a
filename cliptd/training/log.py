"""The run's log.jsonl: exactly one line per optimizer step, also after a kill."""

import json
from pathlib import Path
from typing import Any, TextIO

from cliptd.utils.files import flush_to_disk, write_atomically


class StepLog:
    """A file to which one JSON object per step is appended. `keep_until` drops the steps that a resumed run repeats."""

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None

    def keep_until(self, step: int) -> None:
        """Drop the lines after `step` finished steps, also a half-written one."""
        rows = [row for row in read_log(self.path) if row["step"] <= step]
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def write(self, row: dict[str, Any]) -> None:
        """Append the row of a step."""
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()  # to the kernel, so that a killed process loses no line

    def flush_to_disk(self) -> None:
        """Force the lines to the disk, which must happen before a checkpoint of their steps is complete."""
        if self.path.exists():
            flush_to_disk(self.path)

    def close(self) -> None:
        """Close the file. A later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a log.jsonl ({"step", "loss", "lr", "grad_norm", …}), without a half-written last line."""
    if not Path(path).exists():
        return []
    text = Path(path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
