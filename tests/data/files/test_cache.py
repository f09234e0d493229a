"""Files made of others are made once, and again if what they are made of changed or they failed."""

import os

import pytest

from cliptd.data.files.cache import derived_file


@pytest.mark.usefixtures("own_cache")
def test_a_derived_file_is_made_once_and_again_if_a_file_or_fact_changed(tmp_path):
    source, made = tmp_path / "source.txt", []

    def write(path):
        made.append(path)
        path.write_text(source.read_text().upper())

    source.write_text("a")
    first = derived_file("derived.txt", write, [source], version=1)
    assert (first.name, first.read_text()) == ("derived.txt", "A")
    assert derived_file("derived.txt", write, [source], version=1) == first
    assert len(made) == 1
    assert derived_file("derived.txt", write, [source], version=2) != first
    source.write_text("b")
    os.utime(source, ns=(1, 1))  # as long as before, of another time
    assert derived_file("derived.txt", write, [source], version=1).read_text() == "B"
    assert len(made) == 3


@pytest.mark.usefixtures("own_cache")
def test_what_fails_is_made_anew(tmp_path):
    source = tmp_path / "source.txt"
    with pytest.raises(FileNotFoundError, match=r"source\.txt: no such file"):
        derived_file("derived.txt", None, [source])
    source.write_text("a")

    def fail(path):
        path.write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        derived_file("derived.txt", fail, [source])
    derived = derived_file("derived.txt", lambda path: path.write_text("whole"), [source])
    assert derived.read_text() == "whole"
