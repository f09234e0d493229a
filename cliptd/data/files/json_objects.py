"""Stream the objects of a large JSON file that holds one array."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson


def iterate_objects(path: str | Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file that is an array, or an object with an array under `key`, one at a time.

    Yields:
        ("file, key[number]", object): the place of the object, for messages, and the object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not JSON (perhaps it was cut off), has no such key, or holds other values than objects.
            The message names the file and the number of the last good object.
    """
    path, number = Path(path), -1
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise FileNotFoundError(f"{path}: no such file, expected JSON with {key}") from None
    with file:
        start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        file.seek(0)
        if file.read(3) != b"\xef\xbb\xbf":  # a byte-order mark
            file.seek(0)
        if start not in (b"[", b"{"):
            raise ValueError(
                f"{path}: starts with {start!r}, expected a JSON array or an object with {key!r}"
            )
        prefix = "item" if start == b"[" else f"{key}.item"
        try:
            for number, value in enumerate(ijson.items(file, prefix, use_float=True)):
                where = f"{path}, {key}[{number}]"
                if not isinstance(value, dict):
                    raise ValueError(f"{where}: found a JSON {type(value).__name__}, expected an object")
                yield where, value
        except ijson.JSONError as error:
            after = f"after {key}[{number}]" if number >= 0 else "at its beginning"
            what = str(error).partition("\n")[0]
            raise ValueError(f"{path}: not JSON {after} (was the file cut off?): {what}") from error
    if number < 0:
        raise ValueError(f"{path}: holds no object under {key!r}; expected an array of them")
