"""The run's log.jsonl: one line per optimizer step, exactly once each whatever was killed in between."""

import json
from pathlib import Path
from typing import Any, TextIO

from cliptd.utils.files import flush_to_disk, write_atomically


class StepLog:
    """Appends one JSON object per step; `keep_until` drops what a resumed run will do again."""

    def __init__(self, path: Path):
        self.path = path
        self._file: TextIO | None = None

    def keep_until(self, step: int) -> None:
        """Drop the lines beyond `step` finished steps, half-written ones included."""
        rows = [row for row in read_log(self.path) if row["step"] <= step]
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def write(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()  # in the kernel's hands: a killed process loses no line

    def flush_to_disk(self) -> None:
        """Before a checkpoint counts as complete, the lines up to it are on the disk."""
        if self.path.exists():
            flush_to_disk(self.path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log.jsonl ({"step", "loss", "lr", "grad_norm", ...}); a half-written last line is left
    out."""
    if not Path(path).exists():
        return []
    text = Path(path).read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
