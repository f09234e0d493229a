"""Image–text pairs out of shards, CSVs, folders and tables: what is read, and what is wrong is named."""

import io
import json
import os
import pickle
import tarfile

import datasets
import pytest
from PIL import Image

from cliptd.data.image_tree import ImageTree
from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.tar_pairs import TarPairs, shards_of

pytestmark = pytest.mark.usefixtures("own_cache")
COLOURS = ["red", "lime", "blue", "yellow", "white"]
TEXTS = [f"a {colour} picture" for colour in COLOURS]


def image_bytes(colour, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, kind)
    return file.getvalue()


def write_tar(path, members):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(number, *, key=None):
    key = key or f"{number:03d}"
    return [(f"{key}.png", image_bytes(COLOURS[number])), (f"{key}.txt", TEXTS[number].encode())]


@pytest.fixture
def shards(tmp_path):
    write_tar(tmp_path / "00.tar", [*sample(0), *sample(1), *sample(2)])
    as_json = [("x/b.json", json.dumps({"caption": TEXTS[4]}).encode()), ("x/b.png", image_bytes(COLOURS[4]))]
    write_tar(tmp_path / "01.tar", [*sample(3, key="x/a"), *as_json])
    return str(tmp_path / "{00..01}.tar")


def check(pairs):
    assert len(pairs) == len(COLOURS)
    assert [pair.text for pair in pairs] == TEXTS
    assert len({pair.key for pair in pairs}) == len(COLOURS)
    for pair, colour in zip(pairs, COLOURS, strict=True):
        image = pair.image()
        assert (image.mode, image.size) == ("RGB", (8, 8))
        assert image.getpixel((3, 3)) == Image.new("RGB", (1, 1), colour).getpixel((0, 0))


def test_shards(shards):
    pairs = load_pairs(shards, text_column="caption")
    check(pairs)
    assert pairs[0].key.endswith("/00.tar/000")
    assert pairs[4].key.endswith("/01.tar/x/b")
    check(pickle.loads(pickle.dumps(pairs)))  # as a loader's process gets it


def test_a_csv_and_a_tsv(tmp_path):
    for number, colour in enumerate(COLOURS):
        (tmp_path / f"{number}.png").write_bytes(image_bytes(colour))
    lines = [("filepath", "title"), *((f"{number}.png", text) for number, text in enumerate(TEXTS))]
    (tmp_path / "a.csv").write_text("".join(f"{image},{text}\n" for image, text in lines))
    (tmp_path / "a.tsv").write_text("".join(f"{image}\t{text}\n" for image, text in lines))
    check(load_pairs(tmp_path / "a.csv"))
    check(load_pairs(tmp_path / "a.tsv"))


def test_a_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for number, (colour, text) in enumerate(zip(COLOURS, TEXTS, strict=True)):
        stem = tmp_path / "sub" / f"{number}" if number > 2 else tmp_path / f"{number}"
        stem.with_suffix(".png").write_bytes(image_bytes(colour))
        stem.with_suffix(".txt").write_text(text + "\n")
    pairs = load_pairs(tmp_path)
    check(pairs)
    assert pairs[4].key == str(tmp_path / "sub" / "4.png")


@pytest.mark.parametrize("kind", ["disk", "parquet"])
def test_a_table(kind, tmp_path):
    images = [{"bytes": image_bytes(colour), "path": None} for colour in COLOURS]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": images, "text": TEXTS}, features=features)
    path = tmp_path / ("table.parquet" if kind == "parquet" else "table")
    table.to_parquet(path) if kind == "parquet" else table.save_to_disk(path)
    check(load_pairs(path, image_column="image", text_column="text"))
    with pytest.raises(ValueError, match="has no column 'caption', only image, text; name its columns"):
        load_pairs(path, image_column="image", text_column="caption")


def test_wildcards_and_lists_of_shards(tmp_path, shards):
    assert [path.name for path in shards_of(str(tmp_path / "*.tar"))] == ["00.tar", "01.tar"]
    assert [path.name for path in shards_of(str(tmp_path / "{01,00}.tar"))] == ["01.tar", "00.tar"]
    with pytest.raises(FileNotFoundError, match=r"shard .*02\.tar does not exist \(of .*\{00\.\.02\}\.tar\)"):
        shards_of(str(tmp_path / "{00..02}.tar"))
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match=r"a\.tar\.gz is compressed"):
        shards_of(str(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("cut", [700, 1200, 1536])  # inside an image, inside a text, between members
def test_a_shard_that_ends_early_is_named_or_counted(cut, tmp_path):
    path = write_tar(tmp_path / "cut.tar", [*sample(0), *sample(1)])
    path.write_bytes(path.read_bytes()[: 2048 + cut])
    with pytest.raises(
        ValueError, match=r"cut\.tar is cut short, damaged or not a tar, at or after sample 001"
    ):
        TarPairs([path])
    pairs = TarPairs([path], on_bad_sample="skip")
    assert [pair.text for pair in pairs] == TEXTS[:1]
    assert len(pairs.skipped) == 1


def test_a_folder_of_shards_or_of_parquet_files_is_their_data(tmp_path):
    for number in range(2):
        write_tar(tmp_path / "shards" / f"{number}.tar", sample(number))
        table = datasets.Dataset.from_dict({"image": [image_bytes(COLOURS[number])], "text": [TEXTS[number]]})
        (tmp_path / "tables").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "tables" / f"{number}.parquet")
    shards = load_pairs(tmp_path / "shards")
    tables = load_pairs(tmp_path / "tables", image_column="image", text_column="text")
    for pairs in (shards, tables):
        assert [pairs[k].text for k in range(len(pairs))] == TEXTS[:2]
        assert pairs[1].image().getpixel((0, 0)) == Image.new("RGB", (1, 1), COLOURS[1]).getpixel((0, 0))


def test_folders_that_hold_more_than_one_data_set_are_refused(tmp_path):
    table = datasets.Dataset.from_dict({"image": [image_bytes("red")], "text": ["a red picture"]})
    for name in ("train-00000-of-00001", "test-00000-of-00001"):
        table.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"holds files of the splits train, test; give those of one"):
        load_pairs(tmp_path, image_column="image", text_column="text")
    write_tar(tmp_path / "both" / "0.tar", sample(0))
    (tmp_path / "both" / "a.png").write_bytes(image_bytes("red"))
    with pytest.raises(ValueError, match=r"both: holds shards and images"):
        load_pairs(tmp_path / "both")


def test_a_text_is_not_cut_at_a_separator(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        'filepath,title\na.png,"A "big, red" dog"\nb.png,a dog\nc.png,one, two\n'
    )
    with pytest.raises(
        ValueError, match=r"pairs\.csv:2: has more values than columns; quote a text .* \(2 such"
    ):
        load_pairs(tmp_path / "pairs.csv")
    pairs = load_pairs(tmp_path / "pairs.csv", on_bad_sample="skip")
    assert [pair.text for pair in pairs] == ["a dog"]


def test_paths_of_a_csv_may_be_relative_to_where_one_works(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.png").write_bytes(image_bytes("red"))
    (tmp_path / "pairs.csv").write_text("filepath,title\na.png,a red picture\n")
    with pytest.raises(FileNotFoundError, match=r"paths are relative to"):
        load_pairs(tmp_path / "pairs.csv")[0].image()
    monkeypatch.chdir(tmp_path / "work")
    pair = load_pairs(tmp_path / "pairs.csv")[0]
    assert pair.image().size
    assert pair.key == str(tmp_path / "work" / "a.png")


def test_what_follows_a_damaged_head_is_not_lost_silently(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*sample(0), *sample(1), *sample(2)])
    content = path.read_bytes()
    start = content.index(b"001.png")
    path.write_bytes(content[:start] + b"\xff" * 512 + content[start + 512 :])
    with pytest.raises(
        ValueError, match=r"a\.tar is cut short, damaged or not a tar, at or after sample 000"
    ):
        TarPairs([path])
    parts = [write_tar(tmp_path / f"{n}.tar", sample(n)).read_bytes() for n in range(2)]
    (tmp_path / "two.tar").write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match=r"two\.tar is cut short, damaged or not a tar"):
        TarPairs([tmp_path / "two.tar"])


def test_linked_folders_count_once_and_names_may_be_any_bytes(tmp_path):
    names = ["set/b/1.jpg", "set/a/z.PNG", "set/0.jpg", "elsewhere/x.jpg"]
    names.append(os.fsdecode(b"set/a/caf\xe9.jpg"))
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "b" / "circle").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "a" / "z.txt").touch()
    found = ImageTree(tmp_path / "set")
    expected = ["0.jpg", "a/caf\udce9.jpg", "a/z.PNG", "b/1.jpg", "link/x.jpg"]
    assert list(found.relative()) == expected
    assert [found[k] for k in range(len(found))] == [tmp_path / "set" / name for name in expected]
    with_text = ImageTree(tmp_path / "set", beside=".txt")
    assert list(with_text.relative()) == ["a/z.PNG"]
    assert with_text.lacking == [tmp_path / "set" / name for name in expected if name != "a/z.PNG"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        ImageTree(tmp_path / "empty")


def test_a_file_that_is_no_tar_is_named_or_counted(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(ValueError, match=r"a\.tar is cut short, damaged or not a tar"):
        TarPairs([tmp_path / "a.tar"])
    whole = write_tar(tmp_path / "b.tar", sample(1))
    pairs = TarPairs([tmp_path / "a.tar", whole], on_bad_sample="skip")
    assert [pair.text for pair in pairs] == TEXTS[1:2]
    assert len(pairs.skipped) == 1


def test_an_empty_text_is_named(tmp_path):
    pairs = TarPairs([write_tar(tmp_path / "a.tar", [sample(0)[0], ("000.txt", b" \n")])])
    with pytest.raises(ValueError, match=r"a\.tar, sample 000: its text is empty"):
        pairs[0]


def test_pairs_of_two_data_sets_never_share_a_key(tmp_path):
    keys = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tar(tmp_path / name / "0.tar", sample(0))
        (tmp_path / name / "0.png").write_bytes(image_bytes("red"))
        (tmp_path / name / "0.txt").write_text("red")
        (tmp_path / name / "0.csv").write_text("filepath,title\n0.png,red\n")
        images = [{"bytes": image_bytes("red"), "path": None}]
        features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
        table = datasets.Dataset.from_dict({"image": images, "text": [name]}, features=features)
        table.to_parquet(tmp_path / name / "0.parquet")
        for source in ("0.tar", "0.csv", "0.parquet"):
            pairs = load_pairs(
                tmp_path / name / source,
                image_column="filepath" if "csv" in source else "image",
                text_column="title" if "csv" in source else "text",
            )
            keys.append(pairs[0].key)
    assert len(set(keys)) == len(keys)


def test_samples_without_text_or_image_are_named_or_counted(tmp_path):
    members = [*sample(0)[:1], *sample(1)[1:], *sample(2)]
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=r"a\.tar, sample 000: has no text \(2 such"):
        TarPairs([path])
    pairs = TarPairs([path], on_bad_sample="skip")
    assert [pair.text for pair in pairs] == [TEXTS[2]]
    assert pairs.skipped[1].endswith("sample 001: has no image")


def test_a_json_without_the_column_and_a_corrupt_image_are_named(tmp_path):
    members = [("0.png", image_bytes("red")[:40]), ("0.json", b'{"title": "a"}')]
    pairs = TarPairs([write_tar(tmp_path / "a.tar", members)], text_column="title")
    assert pairs[0].text == "a"
    with pytest.raises(ValueError, match=r"a\.tar, sample 0: image is corrupt"):
        pairs[0].image()
    with pytest.raises(ValueError, match=r"sample 0: has no \.txt, and its \.json no text under 'caption'"):
        TarPairs([tmp_path / "a.tar"])[0]


def test_what_is_wrong_in_other_sources_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("filepath,title\n0.png,\n,b\n1.png,c\n")
    with pytest.raises(ValueError, match=r"a\.csv:2: title empty \(2 such"):
        load_pairs(tmp_path / "a.csv")
    pairs = load_pairs(tmp_path / "a.csv", on_bad_sample="skip")
    assert [pair.text for pair in pairs] == ["c"]
    with pytest.raises(FileNotFoundError, match=r"a\.csv:4: image .*1\.png is missing"):
        pairs[0].image()
    with pytest.raises(
        ValueError, match=r"a\.csv: has no column 'url', only filepath, title; .* \(now ','\)"
    ):
        load_pairs(tmp_path / "a.csv", image_column="url")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        load_pairs(folder)
    (folder / "a.png").write_bytes(image_bytes("red"))
    with pytest.raises(ValueError, match=r"a\.png: has no text a\.txt beside it \(1 such\)"):
        load_pairs(folder)
    assert len(load_pairs(folder, on_bad_sample="skip")) == 0
    (folder / "a.txt").write_text(" \n")
    with pytest.raises(ValueError, match=r"a\.txt: is empty"):
        load_pairs(folder)[0]
    with pytest.raises(FileNotFoundError, match="is not a data set of image–text pairs; expected shards"):
        load_pairs(tmp_path / "nothing")
