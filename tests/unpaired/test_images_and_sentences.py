"""Images and sentences that are no pairs: how they are read, mixed, and refused."""

import gzip

import pytest
from PIL import Image

from cliptd.data.pairs.pair import Pair
from cliptd.unpaired.images_and_sentences import ImagesOf, TextsOf, UnpairedPairs, load_images, load_sentences
from tests.data.pairs.test_pairs import TEXTS, image_bytes, sample, write_tar

pytestmark = pytest.mark.usefixtures("own_cache")


def test_images_of_a_folder_and_of_shards_need_no_text(tmp_path):
    (tmp_path / "photos" / "b").mkdir(parents=True)
    for name in ("b/1.PNG", "0.png"):
        (tmp_path / "photos" / name).write_bytes(image_bytes("red"))
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    images = load_images(tmp_path / "photos")
    assert [image.key[-7:] for image in images] == ["s/0.png", "b/1.PNG"]
    assert images[1].image().size == (8, 8)
    write_tar(tmp_path / "a.tar", [sample(0)[0], *sample(1), ("2.txt", b"a text alone")])
    with pytest.raises(ValueError, match=r"a\.tar, sample 2: has no image"):
        load_images(tmp_path / "a.tar")
    images = load_images(tmp_path / "a.tar", on_bad_sample="skip")
    assert [image.image().getpixel((0, 0)) for image in images] == [(255, 0, 0), (0, 255, 0)]
    with pytest.raises(FileNotFoundError, match=r"nothing: is not a folder; expected a folder of images"):
        load_images(tmp_path / "nothing")


def test_sentences_of_files_and_of_shards(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\n\n  a wet cat  \n", encoding="utf-8")
    with gzip.open(tmp_path / "b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("un café")
    assert list(load_sentences(tmp_path / "a.txt")) == ["a dog", "a wet cat"]
    assert list(load_sentences(tmp_path / "*.txt*")) == ["a dog", "a wet cat", "un café"]
    members = [("0.txt", TEXTS[0].encode()), ("1.json", b'{"caption": "a fish"}')]
    write_tar(tmp_path / "a.tar", members)
    assert list(load_sentences(tmp_path / "a.tar")) == [TEXTS[0], "a fish"]


def test_what_is_wrong_with_sentences_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file"):
        load_sentences(tmp_path / "none.txt")
    with pytest.raises(FileNotFoundError, match=r"none\*\.txt: no such file"):
        load_sentences(tmp_path / "none*.txt")
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"blank\.txt: holds no text"):
        load_sentences(tmp_path / "blank.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"latin\.txt:1: is not UTF-8 \(1 such\)"):
        load_sentences(tmp_path / "latin.txt")
    write_tar(tmp_path / "a.tar", sample(0)[:1])
    with pytest.raises(ValueError, match=r"a\.tar, sample 000: has no text"):
        load_sentences(tmp_path / "a.tar")


def test_wrong_texts_are_left_out_and_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a dog\ncaf\xe9\n\na cat\n")
    lines = load_sentences(tmp_path / "a.txt", on_bad_sample="skip")
    assert list(lines) == ["a dog", "a cat"]
    assert lines.skipped == [f"{tmp_path / 'a.txt'}:2: is not UTF-8"]
    members = [("0.txt", b"a dog"), ("1.txt", b" "), ("2.json", b'{"title": "a cat"}'), ("3.txt", b"a bird")]
    shard = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match="sample 1: its text is empty"):
        load_sentences(shard).part(0, 4)
    texts = load_sentences(shard, on_bad_sample="skip")
    assert texts.part(0, 9) == ["a dog", "", "", "a bird"]
    assert len(texts.skipped) == 2


@pytest.mark.parametrize(("images", "sentences"), [(1, 1), (5, 3), (6, 6), (7, 12), (1, 30), (50, 2)])
def test_both_sides_are_seen_whole_and_evenly(images, sentences):
    pairs = UnpairedPairs(
        ImagesOf([Pair(str(k), Image.new("RGB", (4, 4)), "") for k in range(images)]),
        TextsOf([Pair("", None, f"sentence {k}") for k in range(sentences)]),
        seed=3,
    )
    assert len(pairs) == max(images, sentences)
    for column, count in (("key", images), ("text", sentences)):
        seen = [getattr(pair, column) for pair in pairs]
        counts = [seen.count(value) for value in set(seen)]
        assert len(counts) == count
        assert max(counts) - min(counts) <= 1


def test_pairs_given_as_images_and_as_sentences_meet_others():
    whole = [Pair(str(k), Image.new("RGB", (4, 4)), str(k)) for k in range(1000)]
    pairs = UnpairedPairs(ImagesOf(whole), TextsOf(whole))
    assert sum(pair.key == pair.text for pair in pairs) <= 2
    neighbours = [
        abs(int(one.text) - int(other.text)) for one, other in zip(pairs, list(pairs)[1:], strict=False)
    ]
    assert min(neighbours) > 10  # nor do neighbours stay together
    with pytest.raises(ValueError, match="found 1000 images and 0 sentences"):
        UnpairedPairs(ImagesOf(whole), TextsOf([]))


@pytest.mark.parametrize("seed", [0, 1, 39, 49, 883])
def test_no_length_and_no_seed_leaves_pairs_together(seed):
    for count in (4, 5, 6, 20, 97, 100, 1000, 2310):
        whole = [Pair(str(k), None, str(k)) for k in range(count)]
        pairs = UnpairedPairs(ImagesOf(whole), TextsOf(whole), seed=seed)
        assert len({pair.text for pair in pairs}) == count
        assert sum(pair.key == pair.text for pair in pairs) <= 2


def test_what_was_left_out_of_either_side_is_listed(tmp_path):
    images = load_images(write_tar(tmp_path / "a.tar", [*sample(0), ("1.txt", b"x")]), on_bad_sample="skip")
    texts = load_sentences(write_tar(tmp_path / "b.tar", [*sample(1), ("1.png", b"x")]), on_bad_sample="skip")
    assert len(UnpairedPairs(images, texts).skipped) == 2
