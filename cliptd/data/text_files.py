"""Text that must be UTF-8, or an error that says where it is not."""

from pathlib import Path


def read_text(path: str | Path) -> str:
    """A UTF-8 file, with or without a byte order mark. Raises ValueError naming file and line, FileNotFoundError."""
    return decode(Path(path).read_bytes(), str(path))


def decode(content: bytes, where: str) -> str:
    """UTF-8 as text, with or without a byte order mark. Raises ValueError, which begins with `where` and the line."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{where}: is no UTF-8 in line {line} (byte {content[error.start]:#04x}); convert it"
        ) from None
