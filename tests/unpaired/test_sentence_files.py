"""Lines of text files by random access, against Python's own reading."""

import gzip
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest

from cliptd.unpaired import sentence_files as text_lines
from cliptd.unpaired.sentence_files import TextLines

pytestmark = pytest.mark.usefixtures("own_cache")
SPACES = "\u00a0 \u3000"
CONTENT = f"a dog\r\n\n  two  cats\t\n \t \n東京\nnaïve café\n{SPACES}\n\nlast, without an end"
LINES = ["a dog", "two  cats", "東京", "naïve café", "last, without an end"]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("kind", ["txt", "gz", "with a mark"])
def test_lines_that_are_not_blank(block, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "BLOCK", block)
    content = CONTENT.encode()
    path = tmp_path / "a.txt"
    if kind == "gz":
        path = tmp_path / "a.txt.gz"
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes((b"\xef\xbb\xbf" if kind == "with a mark" else b"") + content)
    for lines in (TextLines(path), TextLines(path), pickle.loads(pickle.dumps(TextLines(path)))):
        assert [lines[k] for k in range(len(lines))] == LINES
        assert lines.part(1, 99) == LINES[1:]
        assert lines.part(3, 3) == []
    with pytest.raises(IndexError, match="sentence 5 of 5"):
        TextLines(path)[5]


def test_several_files_are_one_after_the_other_and_a_changed_one_is_read_anew(tmp_path):
    rng = np.random.default_rng(0)
    expected = []
    for number in range(3):
        lines = [" ".join("x" * n for n in rng.integers(1, 9, rng.integers(0, 4))) for _ in range(50)]
        (tmp_path / f"{number}.txt").write_text("\n".join(lines))
        expected += [line for line in lines if line.strip()]
    (tmp_path / "1b.txt").write_text("\n\n")
    found = TextLines(tmp_path / "*.txt")
    assert [found[k] for k in range(len(found))] == expected
    for start, stop in rng.integers(0, len(expected), (40, 2)):
        assert found.part(start, stop) == expected[start:stop]
    (tmp_path / "2.txt").write_text("another sentence")
    assert TextLines(tmp_path / "*.txt")[-1 + len(TextLines(tmp_path / "*.txt"))] == "another sentence"


def test_what_is_no_utf8_is_named_by_line_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "BLOCK", 5)
    (tmp_path / "a.txt").write_bytes("ein Hund\n\nCafé\n".encode() + "Café\nend\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt:4: is not UTF-8 \(1 such\)"):
        TextLines(tmp_path / "a.txt")
    lines = TextLines(tmp_path / "a.txt", on_bad_sample="skip")
    assert lines.part(0, 9) == ["ein Hund", "Café", "end"]
    assert lines.skipped == [f"{tmp_path}/a.txt:4: is not UTF-8"]
    (tmp_path / "b.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match=r"b\.txt: holds no text"):
        TextLines(tmp_path / "b.txt")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"a dog\n" * 1000)[:-9])
    damaged = bytearray(gzip.compress(np.random.default_rng(0).bytes(5000)))
    damaged[60:90] = b"\xff" * 30
    for content in (gzip.compress(b"a dog\n" * 1000)[:-9], bytes(damaged)):
        (tmp_path / "c.txt.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"c\.txt\.gz: cannot be unpacked"):
            TextLines(tmp_path / "c.txt.gz")
    assert not list((tmp_path / "cache" / "derived").rglob("text.*[0-9]"))  # what was unpacked of it


def test_any_number_of_files_may_be_open_data(tmp_path):
    for number in range(60):
        (tmp_path / f"{number:02d}.txt").write_text(f"sentence {number}\n")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    there = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (there + 20, limits[1]))
    try:
        lines = TextLines(tmp_path / "*.txt")
        assert lines.part(0, 99) == [f"sentence {number}" for number in range(60)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
