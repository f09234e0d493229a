"""The selection of sentences: by hand in float64, once each, resumed, chosen again without the teacher."""

import typing

import numpy as np
import pytest
import torch

from cliptd.data.pairs.pair import Pair
from cliptd.teachers import load_teacher
from cliptd.unpaired import score_table, sentence_selection
from cliptd.unpaired.config import SentenceSelection
from cliptd.unpaired.images_and_sentences import ImagesOf, TextsOf
from cliptd.unpaired.sentence_selection import select_sentences
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

COLOURS = ("red", "green", "blue", "small", "big")
THINGS = ("dog", "cat", "bird", "tree", "house", "car")
CORPUS = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), seed=1)))


@pytest.fixture
def images():
    return ImagesOf([Pair(f"{k}.png", tiny_image(k), "") for k in range(7)])


def texts_of(corpus):
    return TextsOf([Pair("", None, text) for text in corpus])


def expected_scores(teacher, images, neighbours):
    texts = teacher.encode_texts(CORPUS).double()
    pool = teacher.encode_images([image.image for image in images]).double()
    return (texts @ pool.T).sort(dim=1, descending=True).values[:, :neighbours].mean(dim=1)


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("chunk", [4, 100])
def test_the_best_in_the_order_of_the_corpus_and_each_once(neighbours, chunk, teacher, images, tmp_path):
    corpus = [*CORPUS, CORPUS[3], f"  {CORPUS[5].replace(' ', '  ')} "]
    settings = SentenceSelection(keep=9, neighbours=neighbours, chunk=chunk)
    found = select_sentences(texts_of(corpus), images, teacher, settings, tmp_path)
    scores = expected_scores(teacher, images, neighbours)
    best = scores.topk(9)
    lines = (tmp_path / "sentences.txt").read_text().splitlines()
    assert lines == [CORPUS[k] for k in sorted(best.indices.tolist())]
    assert (found["sentences"], found["distinct"], found["selected"]) == (32, 30, 9)
    assert found["least"] == pytest.approx(best.values.min().item(), abs=1e-6)
    assert found["median"] == pytest.approx(np.median(scores), abs=1e-6)


def test_other_bounds_ask_the_teacher_nothing(teacher, images, tmp_path, monkeypatch):
    select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(keep=9), tmp_path)
    monkeypatch.setattr(sentence_selection, "_scores", None)
    scores = expected_scores(teacher, images, 1)
    least = scores.median().item()
    for asked, count in (({"share": 0.5}, 15), ({"least": least}, int((scores >= least).sum()))):
        select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(**asked), tmp_path)
        assert len((tmp_path / "sentences.txt").read_text().splitlines()) == count
    with pytest.raises(ValueError, match=r"no sentence has a cosine of 0\.999; the highest is 0\."):
        select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(least=0.999), tmp_path)


def test_the_teacher_may_move_and_no_other_one_is_taken_for_it(teacher, images, tmp_path, monkeypatch):
    settings = SentenceSelection(keep=9)
    select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path)
    monkeypatch.setattr(teacher, "name", "elsewhere")
    select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path)
    other = load_teacher(str(tiny_open_clip_folder(tmp_path / "other", seed=2)))
    with pytest.raises(ValueError, match=r"holds scores of something else \(teacher is"):
        select_sentences(texts_of(CORPUS), images, other, settings, tmp_path)


def test_stopped_it_goes_on_from_its_whole_chunks(teacher, images, tmp_path, monkeypatch):
    settings = SentenceSelection(keep=9, chunk=4)
    select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path / "whole")
    original, calls = sentence_selection._scores, []

    def stops(texts, *others):
        calls.append(texts)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(texts, *others)

    monkeypatch.setattr(sentence_selection, "_scores", stops)
    with pytest.raises(KeyboardInterrupt):
        select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path / "stopped")
    select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path / "stopped")
    assert len(calls) == 4 + 8 - 3  # three of the eight chunks were whole
    for name in ("sentences.txt", "scores.npy"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_of_many_images_a_pool_is_drawn(teacher, images, tmp_path):
    settings = SentenceSelection(keep=3, pool=2)
    select_sentences(texts_of(CORPUS), images, teacher, settings, tmp_path)
    pool = sentence_selection.load_file(tmp_path / "pool.safetensors")["embeds"]
    every = teacher.encode_images([image.image for image in images])
    assert pool.shape == (2, teacher.embed_dim)
    assert (torch.cdist(pool, every).min(dim=1).values < 1e-3).all()


def test_a_bad_image_of_the_pool_is_left_out_and_listed(teacher, images, tmp_path):
    def corrupt():
        raise ValueError("image x.png is corrupt")

    with_bad = ImagesOf([*(Pair(*image, "") for image in images), Pair("x.png", corrupt, "")])
    settings = SentenceSelection(keep=9, on_bad_sample="skip")
    select_sentences(texts_of(CORPUS), with_bad, teacher, settings, tmp_path / "skip")
    select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(keep=9), tmp_path / "good")
    assert (tmp_path / "skip" / "bad_samples.txt").read_text() == "image x.png is corrupt\n"
    found, expected = ((tmp_path / name / "sentences.txt").read_bytes() for name in ("skip", "good"))
    assert found == expected
    with pytest.raises(ValueError, match=r"image x\.png is corrupt"):
        select_sentences(texts_of(CORPUS), with_bad, teacher, SentenceSelection(keep=9), tmp_path / "raise")


class Skipping(TextsOf):
    """Texts like a shard's under "skip"."""

    skipped: typing.ClassVar = ["sample 3: its text is empty"]

    def part(self, start, stop):
        return ["" if k == 3 else self[k] for k in range(start, min(stop, len(self)))]


def test_texts_that_were_left_out_are_never_selected(teacher, images, tmp_path):
    corpus = Skipping(texts_of(CORPUS).pairs)
    found = select_sentences(corpus, images, teacher, SentenceSelection(share=1.0), tmp_path)
    assert found["distinct"] == found["selected"] == len(CORPUS) - 1
    assert CORPUS[3] not in (tmp_path / "sentences.txt").read_text().splitlines()
    assert (tmp_path / "bad_samples.txt").read_text() == "sample 3: its text is empty\n"


def test_scores_of_another_corpus_of_as_many_lines_are_not_used(teacher, images, tmp_path):
    select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(keep=9), tmp_path)
    with pytest.raises(ValueError, match=r"sentence \d+ is now .*, which has no score"):
        select_sentences(texts_of(CORPUS[::-1]), images, teacher, SentenceSelection(keep=9), tmp_path)


def test_what_does_not_fit_is_named(teacher, images, tmp_path):
    for wrong in ({}, {"keep": 3, "share": 0.1}):
        with pytest.raises(ValueError, match="of keep, share and least; give one of them"):
            SentenceSelection(**wrong)
    with pytest.raises(ValueError, match=r"share is 1\.5"):
        SentenceSelection(share=1.5)
    with pytest.raises(ValueError, match="no more neighbours than images"):
        SentenceSelection(keep=1, neighbours=9, pool=8)
    with pytest.raises(ValueError, match="found 7 images and 30 sentences; expected at least 8 and 1"):
        select_sentences(
            texts_of(CORPUS), images, teacher, SentenceSelection(keep=3, neighbours=8), tmp_path / "a"
        )
    select_sentences(texts_of(CORPUS), images, teacher, SentenceSelection(keep=3), tmp_path)
    with pytest.raises(ValueError, match=r"holds scores of something else .*sentences is '30 of .* '29 of "):
        select_sentences(texts_of(CORPUS[1:]), images, teacher, SentenceSelection(keep=3), tmp_path)


@pytest.mark.parametrize("bounds", [{"keep": 40}, {"keep": 10_000}, {"share": 0.25}, {"least": 0.125}])
def test_of_many_sentences_a_share_is_in_memory_at_once(bounds, teacher, images, tmp_path, monkeypatch):
    """Ties, repetitions, negative scores and texts that could not be read, against numpy's whole-array functions."""
    corpus = [f"a {k} dog" for k in range(997)]
    select_sentences(texts_of(corpus), images, teacher, SentenceSelection(keep=1, chunk=64), tmp_path)
    rng = np.random.default_rng(0)
    entries = np.load(tmp_path / "scores.npy", mmap_mode="r+")
    entries["score"] = rng.integers(-40, 40, len(entries)) / 64
    entries["score"][rng.integers(0, len(entries), 60)] = -np.inf
    entries["text"] = entries["text"][rng.integers(0, len(entries), len(entries))]
    entries.flush()
    monkeypatch.setattr(score_table, "PART", 100)
    monkeypatch.setattr(score_table, "IN_MEMORY", 130)
    hashes = {int(entries["text"][k]) for k in range(len(entries))}
    words = {sentence_selection._hash(text): text for text in corpus}
    said = TextsOf([Pair("", None, words[int(one)]) for one in entries["text"]])
    said.identity = texts_of(corpus).identity
    settings = SentenceSelection(**bounds, chunk=64)
    found = select_sentences(said, images, teacher, settings, tmp_path)
    readable = np.flatnonzero(np.isfinite(entries["score"]))
    _, first = np.unique(entries["text"][readable], return_index=True)
    distinct = readable[first]
    scores = entries["score"][distinct]
    if "least" in bounds:
        expected = distinct[scores >= bounds["least"]]
    else:
        count = bounds.get("keep") or round(0.25 * len(distinct))
        expected = distinct[np.lexsort((distinct, -scores))[:count]]
    expected = np.sort(expected)
    assert (tmp_path / "sentences.txt").read_text().splitlines() == [said[k] for k in expected]
    assert found["distinct"] == len(distinct) <= len(hashes)
    assert found["median"] == np.median(scores)
    assert found["least"] == entries["score"][expected].min()
    assert not (tmp_path / "distinct.npy").exists()
