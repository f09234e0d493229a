"""Lines by number, whatever the file's ends look like, and bad ones by file and line."""

import json
import pickle

import pytest
from torch.utils.data import DataLoader

from cliptd.data import JsonLines


def written(tmp_path, content: bytes):
    path = tmp_path / "items.jsonl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}\n{"a": 2}\n',
        b'{"a": 1}\n{"a": 2}',
        b'{"a": 1}\n{"a": 2}\n\n',
        b'\n{"a": 1}\n  \n{"a": 2}\n',
        b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n',
    ],
    ids=["plain", "no last newline", "blank at the end", "blank between", "BOM and CRLF"],
)
def test_reads_every_object(tmp_path, content):
    lines = JsonLines(written(tmp_path, content))
    assert len(lines) == 2
    assert list(lines) == [{"a": 1}, {"a": 2}]
    assert lines[-1] == {"a": 2}


def test_any_order_and_any_script(tmp_path):
    texts = ["x" * n + "é字" * (n % 3) for n in range(200)]
    content = "".join(json.dumps({"t": text}, ensure_ascii=False) + "\n" for text in texts)
    lines = JsonLines(written(tmp_path, content.encode()), parse=lambda value: value["t"])
    assert [lines[i] for i in reversed(range(200))] == texts[::-1]


def test_an_empty_file(tmp_path):
    lines = JsonLines(written(tmp_path, b""))
    assert list(lines) == []
    with pytest.raises(IndexError, match=r"items\.jsonl has 0 lines, there is no line number 0"):
        lines[0]


def test_pickles_and_forks(tmp_path):
    lines = JsonLines(written(tmp_path, b"".join(b'{"a": %d}\n' % n for n in range(40))))
    assert lines[3] == {"a": 3}  # opened here already
    assert pickle.loads(pickle.dumps(lines))[5] == {"a": 5}
    batches = DataLoader(
        lines, batch_size=4, num_workers=2, collate_fn=lambda rows: [row["a"] for row in rows]
    )
    assert [value for batch in batches for value in batch] == list(range(40))


def test_a_cut_last_line_is_noticed_on_opening(tmp_path):
    with pytest.raises(
        ValueError, match=r"items\.jsonl:2: not JSON \(the file's last line: was it cut off\?\)"
    ):
        JsonLines(written(tmp_path, b'{"a": 1}\n{"a": '))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{oops}\n{"a": 3}\n', r"items\.jsonl:2: not JSON: Expecting property name"),
        (b'{"a": 1}\n\n[2]\n', r"items\.jsonl:3: found a JSON list, expected an object"),
        (b'{"a": 1}\n"\xff"\n{}\n', r"items\.jsonl:2: not JSON: 'utf-8' codec"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, message):
    lines = JsonLines(written(tmp_path, content))
    assert lines[0] == {"a": 1}
    with pytest.raises(ValueError, match=message):
        lines[1]


def test_errors_of_parse_are_named(tmp_path):
    lines = JsonLines(written(tmp_path, b'\n{"a": 1}\n{}\n{"a": "x"}\n'), parse=lambda value: int(value["a"]))
    assert lines[0] == 1
    with pytest.raises(ValueError, match=r"items\.jsonl:3: there is no 'a'"):
        lines[1]
    with pytest.raises(ValueError, match=r"items\.jsonl:4: invalid literal"):
        lines[2]
    with pytest.raises(IndexError, match="has 3 lines, there is no line number 3"):
        lines[3]


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jsonl: no such file"):
        JsonLines(tmp_path / "nowhere.jsonl")
    with pytest.raises(FileNotFoundError, match="no such file"):
        JsonLines(tmp_path)
