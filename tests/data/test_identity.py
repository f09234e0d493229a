"""Data sets of equal length but other samples have other identities; a moved data set keeps its identity."""

import numpy as np
import pytest
from PIL import Image

from cliptd.data.identity import identity_of, wherever
from cliptd.data.pairs.loading import load_pairs
from cliptd.reinforcement.dataset import Reinforced
from cliptd.reinforcement.public_layout_writer import write_tar
from cliptd.unpaired.images_and_sentences import load_images, load_sentences


def folder(path, names=("a", "b"), text="a dog"):
    path.mkdir()
    for name in names:
        Image.new("RGB", (4, 4)).save(path / f"{name}.png")
        (path / f"{name}.txt").write_text(text)
    return path


def csv(path, text="a dog"):
    path.mkdir()
    (path / "pairs.csv").write_text(f"filepath,title\na.png,{text}\n")
    return path / "pairs.csv"


def sentences(path, text="a dog"):
    path.mkdir()
    (path / "lines.txt").write_text(f"{text}\n")
    return path / "lines.txt"


@pytest.mark.parametrize(
    ("make", "load", "other"),
    [
        (folder, load_pairs, {"names": ("a", "c")}),
        (folder, load_images, {"names": ("a", "c")}),
        (csv, load_pairs, {"text": "a whole cat"}),
        (sentences, load_sentences, {"text": "a whole cat"}),
    ],
)
def test_moved_is_the_same_and_changed_is_not(make, load, other, tmp_path):
    first = identity_of(load(make(tmp_path / "here")))
    (tmp_path / "there").mkdir()
    assert identity_of(load(make(tmp_path / "there" / "here"))) == first
    (tmp_path / "else").mkdir()
    assert identity_of(load(make(tmp_path / "else" / "here", **other))) != first


def test_other_shards_of_as_many_samples_are_other_data(tmp_path):
    for number, pixels in enumerate((4, 4, 400)):
        pairs = load_pairs(folder(tmp_path / f"{number}"))
        Image.effect_noise((pixels, pixels), 50).convert("RGB").save(tmp_path / f"{number}" / "a.png")
        samples = [(k, _reinforced(pairs[k])) for k in range(2)]
        write_tar(tmp_path / f"{number:03d}.tar", samples, [])
    one, other = (load_pairs(f"{tmp_path}/{braces}.tar") for braces in ("{000..001}", "{000,002}"))
    assert len(one) == len(other) == 4
    assert identity_of(one) != identity_of(other)


def _reinforced(pair):
    return Reinforced(pair.key, pair.image, pair.text, (), (), np.zeros((1, 2)), np.zeros((1, 2)))


def test_what_has_neither_identity_nor_name_has_its_type():
    assert identity_of([1, 2]) == "2 of list"


def test_a_model_is_known_wherever_it_lies(tmp_path):
    for place in ("here", "there"):
        (tmp_path / place / "student").mkdir(parents=True)
    assert (
        wherever(tmp_path / "here" / "student")
        == wherever(f"local-dir:{tmp_path}/there/student")
        == "student"
    )
    assert wherever("dandelin/vilt-b32-mlm") == "dandelin/vilt-b32-mlm"
