"""Files are whole or absent, and as readable as the user's umask says."""

import os
import stat

import pytest
import torch
from safetensors.torch import load_file

from cliptd.utils.files import read_json, whole_file, write_atomically, write_lines
from cliptd.utils.tensor_files import save_tensors


@pytest.fixture
def umask():
    old = os.umask(0o027)
    yield 0o640
    os.umask(old)


def test_every_writer_leaves_a_file_of_the_umasks_mode(tmp_path, umask):
    write_atomically(tmp_path / "text", "ä\n")
    write_atomically(tmp_path / "bytes", b"\r\n")
    write_lines(tmp_path / "lines", (str(n) for n in range(2)))
    save_tensors(tmp_path / "tensors", {"a": torch.arange(3.0)})
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {
        name: umask for name in ("text", "bytes", "lines", "tensors")
    }
    assert (tmp_path / "text").read_bytes() == "ä\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\r\n"
    assert (tmp_path / "lines").read_bytes() == b"0\n1\n"


def test_an_error_leaves_the_old_content_and_nothing_beside_it(tmp_path):
    path = tmp_path / "lines"
    write_lines(path, ["old"])
    with pytest.raises(ZeroDivisionError):
        write_lines(path, (str(1 // n) for n in (1, 0)))
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_does_not_reach_the_next(tmp_path):
    path = tmp_path / "file"
    leftover = tmp_path / "file.partial"
    leftover.write_text("half of someth")
    leftover.chmod(0o400)
    with whole_file(path) as partial, open(partial, "a") as file:
        file.write("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) & 0o200


def test_tied_tensors_are_written_under_each_name(tmp_path):
    weight = torch.randn(3, 2)
    save_tensors(tmp_path / "w", {"embed": weight, "head": weight, "turned": weight.T})
    found = load_file(tmp_path / "w")
    assert torch.equal(found["embed"], found["head"])
    assert torch.equal(found["turned"], weight.T)


def test_damaged_json_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "part.json"
    path.write_text('{"keys": ["a", "b"]}')
    assert read_json(path, "make it again") == {"keys": ["a", "b"]}
    path.write_text('{"keys": ["a", ')
    with pytest.raises(ValueError, match=r"part\.json is not complete JSON .*; make it again$"):
        read_json(path, "make it again")
