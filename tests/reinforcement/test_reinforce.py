"""Reinforced datasets of tiny teachers: both layouts written and read, replayed, resumed, refused."""

import gzip
import io
import json
import math
import os
import shutil
import tarfile

import datasets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from cliptd.data.augmentation import AugmentationPolicy, replay
from cliptd.data.images import as_rgb
from cliptd.data.pairs.folder_pairs import FolderPairs
from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.config import Distillation
from cliptd.embedding.student import load_student
from cliptd.reinforcement.checks import check_replay, known_pictures
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.compact_part import bytes_of, read_part
from cliptd.reinforcement.config import Reinforcement
from cliptd.reinforcement.dataset import CARD, DATACOMP_DR, ReinforcementCard, TeacherCard, read_card
from cliptd.reinforcement.loading import load_reinforced
from cliptd.reinforcement.making import bytes_of_a_pair, reinforce
from cliptd.reinforcement.public_layout import ReinforcedTars
from cliptd.reinforcement.samples import SampleMaker
from cliptd.reinforcement.training import (
    ReinforcedCollator,
    ReinforcedDistiller,
    ReinforcedExamples,
    distil_reinforced,
)
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, loop, make_accelerator
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import TEACHER
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_image, tiny_open_clip_folder

PAIRS = 7


class Words:
    """A captioner whose captions are words of their seeds."""

    name = "words"

    def captions(self, images, seeds):
        return [[f"a photo of {seed % 1000}" for seed in own] for own in seeds]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An ensemble whose members see images of different sizes."""
    one = tiny_open_clip_folder(tmp_path_factory.mktemp("one"), embed_dim=16, seed=1)
    other = tiny_hf_folder(tmp_path_factory.mktemp("other"), embed_dim=8, seed=2)
    return load_teacher(f"{one},hf:{other}")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for k in range(PAIRS):
        tiny_image(k).resize((50 + k, 60)).save(folder / f"{k}.jpg")
        (folder / f"{k}.txt").write_text(f"picture number {k}")
    return FolderPairs(folder)


def settings(**changes):
    return Reinforcement(**{"augmentations": 3, "captions": 2, "shard_size": 3, "chunk": 2, **changes})


def tars(folder):
    return ReinforcedTars(sorted(folder.glob("*.tar")))


@pytest.mark.parametrize("layout", ["public", "compact"])
def test_what_is_stored_is_what_the_teacher_sees_in_the_replayed_crops(teacher, pairs, tmp_path, layout):
    reinforce(pairs, teacher, settings(layout=layout), tmp_path, captioner=Words())
    dataset = tars(tmp_path) if layout == "public" else ReinforcedStore(tmp_path, pairs)
    assert len(dataset) == PAIRS
    assert dataset.card.embed_dims == [16, 8]
    assert dataset.card.logit_scales == [member.logit_scale for member in teacher.members]
    for position, sample in enumerate([dataset[k] for k in range(PAIRS)]):
        assert sample.text == f"picture number {position}"
        assert len(sample.captions) == 2
        assert len(set(sample.augmentations)) == 3
        assert np.array_equal(sample.image(), pairs[position].image())
    assert check_replay(dataset, teacher) <= (1e-6 if layout == "public" else 2**-11 + 2**-25)
    other = load_teacher(teacher.members[0].name)
    with pytest.raises(ValueError, match=r"was reinforced by .*; give the same teachers"):
        check_replay(dataset, other, [0])


def test_what_teachers_know_of_augmented_pictures_is_counted(teacher, pairs, tmp_path):
    bad = Pair("bad", lambda: Image.open(tmp_path / "none.jpg"), "no picture")
    mixed = [*(pairs[k] for k in range(PAIRS)), bad]
    mixed[1] = Pair(mixed[1].key, mixed[1].image, mixed[0].text)  # texts that cannot be told apart are one
    policy = AugmentationPolicy(size=32, scale=(0.3, 0.6))
    found = known_pictures(mixed, teacher, policy)
    assert [known.teacher for known in found] == [member.name for member in teacher.members]
    texts = [pair.text for pair in mixed[:PAIRS]]
    images = [as_rgb(pair.image() if callable(pair.image) else pair.image) for pair in mixed[:PAIRS]]
    drawn = [policy.draw((image.height, image.width), seed) for seed, image in enumerate(images)]
    for known, member in zip(found, teacher.members, strict=True):
        size = member.pixel_shape[-1]
        crops = [replay(*one, size, drawn_at=32) for one in zip(images, drawn, strict=True)]
        for share, seen in ((known.whole, images), (known.augmented, crops)):
            hits = 0
            for image, own in zip(seen, texts, strict=True):
                scores = member.encode_images([image]).double() @ member.encode_texts(texts).double().T
                hits += texts[int(scores.argmax())] == own
            assert share == pytest.approx(hits / PAIRS)
        assert known.images == PAIRS
    assert known_pictures(mixed[-1:], teacher, policy) == []


def test_the_shipped_teacher_knows_wide_crops_and_not_moved_pictures():
    pairs, teacher = IconworldPairs(128), load_teacher(str(TEACHER))
    wide = AugmentationPolicy(size=64, scale=(0.9, 1.0), ratio=(1.0, 1.0), operations=0)
    (of_wide,), (of_strong,) = (
        known_pictures(pairs, teacher, policy) for policy in (wide, AugmentationPolicy(size=64))
    )
    assert (
        of_wide.whole == of_strong.whole > 0.5
    )  # half of the scenes show several icons, a text may tell of one
    assert of_wide.augmented > 0.9 * of_wide.whole
    assert of_strong.augmented < 0.2


def test_both_layouts_hold_the_same(teacher, pairs, tmp_path):
    for layout in ("public", "compact"):
        reinforce(pairs, teacher, settings(layout=layout), tmp_path / layout, captioner=Words())
    public, compact = tars(tmp_path / "public"), ReinforcedStore(tmp_path / "compact", pairs)
    for one, other in ((public[k], compact[k]) for k in range(PAIRS)):
        assert one.augmentations == other.augmentations
        assert (one.text, one.captions) == (other.text, other.captions)
        np.testing.assert_allclose(one.image_embeds, other.image_embeds, atol=2**-11)
    sizes = [sum(p.stat().st_size for p in (tmp_path / name).iterdir()) for name in ("public", "compact")]
    assert sizes[1] < sizes[0] / 4


@pytest.mark.parametrize("layout", ["public", "compact"])
def test_a_run_that_was_cut_off_ends_in_the_same_bytes(teacher, pairs, tmp_path, layout, monkeypatch):
    reinforce(pairs, teacher, settings(layout=layout), tmp_path / "whole", captioner=Words())
    seen = []
    original = SampleMaker.make

    def cut_off(*arguments):
        seen.append(arguments)
        if len(seen) == 4:  # in the middle of the second shard
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(SampleMaker, "make", cut_off)
    with pytest.raises(KeyboardInterrupt):
        reinforce(pairs, teacher, settings(layout=layout), tmp_path / "cut", captioner=Words())
    if layout == "compact":
        with pytest.raises(FileNotFoundError, match="3 of 7 pairs are reinforced; run reinforce_dataset"):
            ReinforcedStore(tmp_path / "cut", pairs)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("reinforced-00000.*")}
    assert first
    reinforce(pairs, teacher, settings(layout=layout), tmp_path / "cut", captioner=Words())
    assert {path: path.stat().st_mtime_ns for path in first} == first  # not made again
    names = [sorted(p.name for p in (tmp_path / run).iterdir()) for run in ("whole", "cut")]
    assert names[0] == names[1]
    for name in names[0]:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


def test_embeddings_do_not_depend_on_the_batch_they_are_made_in(teacher, pairs, tmp_path):
    for chunk in (1, 7):
        reinforce(pairs, teacher, settings(chunk=chunk), tmp_path / str(chunk), captioner=Words())
    one, other = (ReinforcedStore(tmp_path / str(chunk), pairs) for chunk in (1, 7))
    for a, b in ((one[k], other[k]) for k in range(PAIRS)):
        assert (a.augmentations, a.captions) == (b.augmentations, b.captions)
        np.testing.assert_allclose(a.image_embeds, b.image_embeds, atol=2**-11)
        np.testing.assert_allclose(a.text_embeds, b.text_embeds, atol=2**-11)


def test_bad_pairs_are_left_out_and_listed(teacher, pairs, tmp_path):
    def broken():
        raise ValueError("image x.png is corrupt")

    with_bad = [pairs[0], Pair("x.png", broken, "a dog"), *(pairs[k] for k in range(1, 4))]
    for layout in ("public", "compact"):
        out = tmp_path / layout
        reinforce(with_bad, teacher, settings(layout=layout, on_bad_sample="skip"), out)
        dataset = tars(out) if layout == "public" else ReinforcedStore(out, with_bad)
        assert [dataset[k].text[-1] for k in range(len(dataset))] == list("0123")
        assert dataset[0].captions == ()
        assert (out / "bad_samples.txt").read_text() == "image x.png is corrupt\n"
        with pytest.raises(ValueError, match=r"image x\.png is corrupt"):
            reinforce(with_bad, teacher, settings(layout=layout), tmp_path / f"{layout}2")


def test_the_data_may_lie_elsewhere_and_no_file_stays_open(teacher, pairs, tmp_path):
    shutil.copytree(pairs.folder, tmp_path / "here")
    reinforce(FolderPairs(tmp_path / "here"), teacher, settings(shard_size=1), tmp_path / "out")
    (tmp_path / "here").rename(tmp_path / "there")
    open_before = len(os.listdir("/proc/self/fd"))
    moved = ReinforcedStore(tmp_path / "out", FolderPairs(tmp_path / "there"))
    assert check_replay(moved, teacher) <= 2**-11 + 2**-25
    assert len(os.listdir("/proc/self/fd")) - open_before < PAIRS  # of parts


def test_what_was_left_out_before_is_listed_too(teacher, pairs, tmp_path, capsys):
    lines = ["filepath\ttitle", *(f"{pairs.folder}/{k}.jpg\t{'' if k == 2 else k}" for k in range(PAIRS))]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    data = load_pairs(tmp_path / "pairs.tsv", on_bad_sample="skip")
    reinforce(data, teacher, settings(on_bad_sample="skip"), tmp_path / "out")
    told = (tmp_path / "out" / "bad_samples.txt").read_text()
    assert told == f"{tmp_path}/pairs.tsv:4: title empty\n"
    assert "1 samples were skipped" in capsys.readouterr().out
    reinforce(data, teacher, settings(), tmp_path / "raise")  # nothing is wrong with what it was given
    assert (tmp_path / "raise" / "bad_samples.txt").read_text() == told
    assert ReinforcedStore(tmp_path / "out", data).skipped == told.splitlines()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"captions": ()}, "has no synthetic caption, but the card promises 2"),
        ({"image_embeds": np.full((3, 24), np.nan)}, "a teacher's image embedding is not finite"),
        ({"text_embeds": np.full((3, 24), np.inf)}, "a teacher's text embedding is not finite"),
    ],
)
def test_a_sample_that_would_mislead_a_batch_is_refused_or_left_out(
    teacher, pairs, tmp_path, change, message
):
    reinforce(pairs, teacher, settings(), tmp_path, captioner=Words())
    store = ReinforcedStore(tmp_path, pairs)

    class Changed:
        card, skipped = store.card, ()

        def __len__(self):
            return len(store)

        def __getitem__(self, index):
            return store[index]._replace(**change) if index == 1 else store[index]

    with pytest.raises(ValueError, match=message):
        ReinforcedExamples(Changed(), 32)[1]
    student = load_student(teacher.members[0].name)
    collate = ReinforcedCollator(student)
    examples = ReinforcedExamples(Changed(), 32, on_bad_sample="skip")
    assert len(collate([examples[k] for k in range(3)])["caption_ids"]) == 2
    if not change.get("captions", True):
        assert ReinforcedExamples(Changed(), 32, captions=False)[1].caption is None


class NanTeacher:
    """A teacher that has no finite embedding of a text."""

    def __init__(self, teacher, text):
        self.members, self.text = [teacher], text
        self.teacher = teacher

    def __getattr__(self, name):
        return getattr(self.teacher, name)

    def encode_texts(self, texts):
        embeds = self.teacher.encode_texts(texts)
        embeds[[k for k, text in enumerate(texts) if text == self.text]] = np.nan
        return embeds


def test_what_stopped_at_a_bad_pair_goes_on_without_it(pairs, tmp_path):
    folder = tiny_open_clip_folder(tmp_path / "teacher", embed_dim=16, seed=1)
    teacher = NanTeacher(load_teacher(str(folder)), "picture number 4")
    teacher.members = [teacher]

    def broken():
        raise ValueError("image x.png is corrupt")

    data = [*pairs, Pair("x.png", broken, "a dog")]
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"text 'picture number 4' is not finite"):
        reinforce(data, teacher, settings(chunk=3), out)
    made = out / "reinforced-00000.safetensors"
    before = made.stat().st_mtime_ns
    reinforce(data, teacher, settings(chunk=3, on_bad_sample="skip"), out)
    assert made.stat().st_mtime_ns == before
    bad = (out / "bad_samples.txt").read_text().splitlines()
    assert len(bad) == 2
    assert "picture number 4" in bad[0]
    assert bad[1] == "image x.png is corrupt"
    dataset = ReinforcedStore(out, data)
    assert [dataset[k].text[-1] for k in range(len(dataset))] == list("012356")
    with pytest.raises(
        ValueError, match=r"\(2 such, skipped when the folder was begun with 'skip'\); use 'skip'"
    ):
        reinforce(data, teacher, settings(chunk=3), out)


def test_datasets_of_other_seeds_and_captioners_are_told_apart(teacher, pairs, tmp_path):
    for seed in (0, 1):
        reinforce(pairs, teacher, settings(seed=seed, layout="public"), tmp_path / f"public{seed}")
        reinforce(pairs, teacher, settings(seed=seed), tmp_path / f"compact{seed}")
    assert tars(tmp_path / "public0").identity != tars(tmp_path / "public1").identity
    one, other = (ReinforcedStore(tmp_path / f"compact{seed}", pairs) for seed in (0, 1))
    assert one.identity != other.identity
    captioner = Words()
    captioner.fingerprint = "0123"
    reinforce(pairs, teacher, settings(), tmp_path / "told", captioner=captioner)
    captioner.fingerprint = "4567"
    with pytest.raises(ValueError, match=r"made_of\.captioner is '0123' there, '4567' here"):
        reinforce(pairs, teacher, settings(), tmp_path / "told", captioner=captioner)


@pytest.mark.parametrize(("kind", "suffix"), [("MPO", "jpg"), ("JPEG2000", "png"), ("WEBP", "webp")])
def test_pictures_of_any_kind_come_back_out_of_public_shards(teacher, tmp_path, kind, suffix):
    (tmp_path / "data").mkdir()
    options = {"save_all": True, "append_images": [tiny_image(1)]} if kind == "MPO" else {}
    tiny_image(0).save(tmp_path / "data" / "a.jpg", format=kind, **options)
    (tmp_path / "data" / "a.txt").write_text("a picture")
    pairs = FolderPairs(tmp_path / "data")
    reinforce(pairs, teacher, settings(layout="public"), tmp_path / "out")
    (dataset,) = [tars(tmp_path / "out")]
    assert dataset[0].image().tobytes() == pairs[0].image().tobytes()
    with tarfile.open(tmp_path / "out" / "reinforced-00000.tar") as tar:
        assert f"000000000.{suffix}" in tar.getnames()


def test_a_teacher_may_move_while_data_are_reinforced(pairs, tmp_path):
    folder = tiny_open_clip_folder(tmp_path / "here", embed_dim=16, seed=1)
    reinforce(pairs, load_teacher(str(folder)), settings(), tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_bytes()
    moved = shutil.move(folder, tmp_path / "there")
    assert reinforce(pairs, load_teacher(str(moved)), settings(), tmp_path / "out") == 0
    assert (tmp_path / "out" / CARD).read_bytes() == card  # which runs on the data know them by
    other = tiny_open_clip_folder(tmp_path / "here", embed_dim=16, seed=3)
    with pytest.raises(ValueError, match=r"another reinforcement \(teachers is"):
        reinforce(pairs, load_teacher(str(other)), settings(), tmp_path / "out")


def test_the_public_layout_is_no_store_beside_data(teacher, pairs, tmp_path):
    reinforce(pairs, teacher, settings(layout="public"), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is of the public layout, .*\*\.tar as data"):
        ReinforcedStore(tmp_path, pairs)


@pytest.mark.parametrize("kind", ["disk", "parquet"])
def test_a_table_may_move_after_it_was_reinforced(teacher, pairs, kind, tmp_path):
    columns = {"image": [pair.image() for pair in pairs], "text": [pair.text for pair in pairs]}
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    table = datasets.Dataset.from_dict(columns, features=features)
    here, there = (tmp_path / name / ("table.parquet" if kind == "parquet" else "table") for name in "ab")
    here.parent.mkdir()
    table.to_parquet(here) if kind == "parquet" else table.save_to_disk(here)
    named = {"image_column": "image", "text_column": "text"}
    reinforce(load_pairs(here, **named), teacher, settings(), tmp_path / "out")
    shutil.copytree(here.parent, there.parent)
    moved = load_pairs(there, **named)
    assert reinforce(moved, teacher, settings(), tmp_path / "out") == 0
    store = ReinforcedStore(tmp_path / "out", moved)
    assert [store[k].text for k in range(PAIRS)] == [pair.text for pair in pairs]


def test_another_reinforcement_and_other_data_are_refused(teacher, pairs, tmp_path):
    reinforce(pairs, teacher, settings(), tmp_path)
    with pytest.raises(ValueError, match=r"another reinforcement \(augmentations is 3 there, 4 here\)"):
        reinforce(pairs, teacher, settings(augmentations=4), tmp_path)
    other = [pairs[k] for k in (1, 0, *range(2, PAIRS))]
    with pytest.raises(ValueError, match="picture number 0' was reinforced; give the same data"):
        ReinforcedStore(tmp_path, other)[0]
    with pytest.raises(ValueError, match=r"made of the pairs up to 6, the data holds 5; give the same data"):
        ReinforcedStore(tmp_path, other[:5])
    (tmp_path / "reinforced-00001.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match=r"reinforced-00001\.safetensors has no readable head"):
        ReinforcedStore(tmp_path, pairs)


@pytest.mark.parametrize("array", ["image_embeds", "text_embeds", "crops", "operations", "magnitudes"])
def test_a_row_that_was_damaged_is_named_or_left_out(teacher, pairs, tmp_path, array):
    reinforce(pairs, teacher, settings(), tmp_path, captioner=Words())
    path = tmp_path / "reinforced-00001.safetensors"
    part, content = read_part(path), bytearray(path.read_bytes())
    row = bytes_of(array) * math.prod(part.shapes[array])
    content[part.offsets[array] + row] ^= 1  # the first byte of row 1
    path.write_bytes(content)
    store = ReinforcedStore(tmp_path, pairs)
    with pytest.raises(
        ValueError, match=r"reinforced-00001\.safetensors, row 1: is corrupt; delete the file"
    ):
        store[4]
    assert [store[k].text for k in (3, 5)] == ["picture number 3", "picture number 5"]
    examples = ReinforcedExamples(store, 32, on_bad_sample="skip")
    collate = ReinforcedCollator(load_student(teacher.members[0].name))
    assert len(collate([examples[k] for k in (3, 4, 5)])["caption_ids"]) == 2


@pytest.fixture
def public(tmp_path):
    """Two samples as Apple's shards have them, one npz and one pth.gz, pictures and texts elsewhere."""
    rng = np.random.default_rng(0)
    card = ReinforcementCard(
        tuple(TeacherCard(str(k), None, 3, 100.0) for k in range(2)), AugmentationPolicy(), 2, 1
    )
    (tmp_path / "pictures").mkdir()
    arrays = {"image_emb": rng.normal(size=(2, 6)), "text_emb": rng.normal(size=(2, 6))}
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}

    def write(paug=None, members=None, tensors=None):
        with tarfile.open(tmp_path / "000.tar", "w") as tar:
            for key in ("aa", "bb"):
                tiny_image(0).resize((40, 40)).save(tmp_path / "pictures" / f"{key}.png")
                (tmp_path / "pictures" / f"{key}.txt").write_text(f"text of {key}\n")
                content = {
                    "url.txt": b"https://example.org/x.jpg",
                    "syn.json": json.dumps({"syn_text": [f"caption of {key}"]}).encode(),
                    "paug.json": json.dumps(
                        paug or {"param_aug": [[[0, 1, 20, 30], [[5, 9.0], [13, 0.0]]], [[1, 0, 9, 9], None]]}
                    ).encode(),
                    "json": b'{"uid": "x"}',
                }
                file = io.BytesIO()
                if key == "aa":
                    np.savez(file, **arrays)
                    content["npz"] = file.getvalue()
                else:
                    found = tensors or {k: torch.from_numpy(v).bfloat16() for k, v in arrays.items()}
                    torch.save(found, file)
                    content["pth.gz"] = gzip.compress(file.getvalue())
                for name, value in {**content, **(members or {})}.items():
                    if value is not None:
                        head = tarfile.TarInfo(f"{key}.{name}")
                        head.size = len(value)
                        tar.addfile(head, io.BytesIO(value))
        return [tmp_path / "000.tar"], card, tmp_path / "pictures", arrays

    return write


def test_the_public_shards_are_read_as_they_are(public):
    shards, card, pictures, arrays = public()
    dataset = ReinforcedTars(shards, card, pictures=pictures)
    one, other = dataset[0], dataset[1]
    assert (one.text, one.captions, other.captions) == ("text of aa", ("caption of aa",), ("caption of bb",))
    assert one.augmentations[0].operations == (("Rotate", 9.0), ("Equalize", 0.0))
    assert one.augmentations[1].operations == ()
    assert np.array_equal(one.image_embeds, arrays["image_emb"])
    rounded = torch.from_numpy(arrays["text_emb"]).bfloat16().float().numpy()
    assert np.array_equal(other.text_embeds, rounded)
    assert isinstance(one.image(), Image.Image)
    encoded = [a.encode() for a in one.augmentations]
    public(paug={"param_aug": json.dumps(encoded)})  # as public tables have it
    assert ReinforcedTars(shards, card, pictures=pictures)[0].augmentations == one.augmentations
    with pytest.raises(ValueError, match=r"aa: has no image and no text; name the folder of images"):
        ReinforcedTars(shards, card)
    with pytest.raises(FileNotFoundError, match=r"reinforcement\.json does not exist"):
        ReinforcedTars(shards)
    assert (sum(DATACOMP_DR.embed_dims), DATACOMP_DR.policy.size) == (1536, 224)


def test_pictures_that_were_not_downloaded_are_named_before_training_and_left_out(public):
    shards, card, pictures, _ = public()
    (pictures / "bb.png").unlink()
    (pictures / "aa.txt").unlink()
    with pytest.raises(ValueError, match=r"sample aa: lacks aa\.txt in .*pictures; .* \(2 such"):
        ReinforcedTars(shards, card, pictures=pictures)
    assert len(ReinforcedTars(shards, card, pictures=pictures, on_bad_sample="skip")) == 0
    tiny_image(0).save(pictures / "bb.webp")  # it came later
    dataset = ReinforcedTars(shards, card, pictures=pictures, on_bad_sample="skip")
    assert [sample.text for sample in dataset] == ["text of bb"]
    assert len(dataset.skipped) == 1
    with pytest.raises(FileNotFoundError, match=r"nowhere: is not a folder"):
        ReinforcedTars(shards, card, pictures=pictures / "nowhere")


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": {"npz": b"PK nonsense", "pth.gz": None}}, "aa: its embeddings are corrupt"),
        ({"members": {"paug.json": b"{"}}, r"aa: its syn.json or paug.json is not as expected"),
        ({"paug": {"param_aug": [[[0, 1, 20, 30], []]]}}, "expected .* for 1 augmentations"),
        ({"members": {"paug.json": None}}, r"aa: has no paug.json, so its augmentations cannot be replayed"),
    ],
)
def test_what_is_wrong_with_a_public_shard_is_named(public, change, message):
    shards, card, pictures, _ = public(**change)
    with pytest.raises(ValueError, match=message):
        ReinforcedTars(shards, card, pictures=pictures)[0]


def test_no_code_of_a_shard_is_run(public, capsys):
    shards, card, pictures, _ = public(tensors={"image_emb": Evil(), "text_emb": Evil()})
    dataset = ReinforcedTars(shards, card, pictures=pictures)
    with pytest.raises(ValueError, match="bb: its embeddings cannot be read safely"):
        dataset[1]
    assert "code ran" not in capsys.readouterr().out


def test_a_shard_that_ends_early_is_named_or_left_out(public):
    shards, card, pictures, _ = public()
    whole = shards[0].read_bytes()
    shards[0].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"000\.tar is cut short, damaged or not a tar"):
        ReinforcedTars(shards, card, pictures=pictures)
    dataset = ReinforcedTars(shards, card, pictures=pictures, on_bad_sample="skip")
    assert len(dataset.skipped) == 1


def test_the_card_survives_and_says_what_is_wrong_with_it(tmp_path):
    (tmp_path / CARD).write_text(DATACOMP_DR.to_json())
    assert read_card(tmp_path / CARD) == DATACOMP_DR
    (tmp_path / CARD).write_text("{")
    with pytest.raises(ValueError, match="is no card of a reinforced dataset"):
        read_card(tmp_path / CARD)


def test_shards_that_we_write_are_ordinary_pairs_too(teacher, pairs, tmp_path):
    reinforce(pairs, teacher, settings(layout="public"), tmp_path)
    found = load_pairs(f"{tmp_path}/reinforced-{{00000..00002}}.tar")
    assert [found[k].text for k in range(len(found))] == [f"picture number {k}" for k in range(PAIRS)]
    assert np.array_equal(found[2].image(), pairs[2].image())


def test_a_run_that_was_killed_goes_on_with_the_same_crops_and_captions(
    teacher, pairs, tmp_path, monkeypatch
):
    reinforce(pairs, teacher, settings(), tmp_path / "data", captioner=Words())
    dataset = ReinforcedStore(tmp_path / "data", pairs)
    folder = tiny_open_clip_folder(tmp_path / "student", embed_dim=12, seed=5)
    training = TrainingConfig(steps=4, batch_size=4, lr=1e-3, eval_every=2, save_every=1, metric="top1")
    asked = Distillation(objective="reinforced", distill_weight=0.75, training=training)

    def run(name):
        options = {"run_dir": tmp_path / name, "evaluate": lambda _: {"top1": 0.0}}
        accelerator = make_accelerator(training, tmp_path / name)
        return distil_reinforced(
            load_student(str(folder)), dataset, asked, **options, accelerator=accelerator
        )

    whole = run("whole").history
    with monkeypatch.context() as patch:
        saved, save = [], loop.save_checkpoint

        def killed(*arguments):
            saved.append(arguments)
            if len(saved) == 3:
                raise KeyboardInterrupt
            save(*arguments)

        patch.setattr(loop, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run("resumed")
    resumed = run("resumed").history
    assert [row["loss"] for row in whole] == [row["loss"] for row in resumed]
    assert len({row["loss"] for row in whole}) == 4
    assert any("caption" in name for name in whole[0])


def test_the_loss_of_a_batch_is_the_formulas(teacher, pairs, tmp_path):
    reinforce(pairs, teacher, settings(), tmp_path / "data", captioner=Words())
    dataset = ReinforcedStore(tmp_path / "data", pairs)
    student = load_student(str(tiny_open_clip_folder(tmp_path / "student", embed_dim=12, seed=5)))
    examples = ReinforcedExamples(dataset, 32)
    torch.manual_seed(0)
    batch = [examples[k] for k in range(4)]
    columns = ReinforcedCollator(student)(batch)
    found = ReinforcedDistiller(student.model, dataset.card, distill_weight=0.75)(**columns)["loss"]
    image = student.model.encode_image(columns["pixel_values"])
    expected = 0.0
    for ids, of_teacher in (("input_ids", "teacher_text"), ("caption_ids", "teacher_caption")):
        logits = student.model.logit_scale.exp() * similarity(image, student.model.encode_text(columns[ids]))
        labels = torch.arange(4)
        contrastive = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        parts = []
        for k, member in enumerate(teacher.members):
            own = slice(0, 16) if k == 0 else slice(16, 24)
            target = member.logit_scale * similarity(
                columns["teacher_image"][:, own], columns[of_teacher][:, own]
            )
            parts += [divergence(target, logits), divergence(target.T, logits.T)]
        expected = expected + 0.25 * contrastive + 0.75 * sum(parts) / 4
    torch.testing.assert_close(found, expected)
    # The crop is one of the stored ones, and its target that crop's.
    for example in batch:
        seen = teacher.encode_images([example.image])[0]
        own = torch.cat(teacher.split(seen[None]), dim=1)[0]
        if teacher.members[0].pixel_shape[-1] == 32:
            torch.testing.assert_close(own[:16], example.image_embed[:16], atol=2e-3, rtol=0)


def similarity(a, b):
    return F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def divergence(teacher, student):
    return F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")


def test_options_without_effect_on_the_reinforced_objective_are_refused():
    with pytest.raises(ValueError, match="weights has no effect here; it belongs to losses other than"):
        Distillation(objective="reinforced", weights={"affinity": 1.0})


@pytest.mark.parametrize("layout", ["public", "compact"])
def test_the_size_that_is_announced_is_about_what_is_written(teacher, pairs, tmp_path, layout):
    asked = settings(layout=layout, augmentations=40, shard_size=PAIRS)
    announced = bytes_of_a_pair(asked, pairs, teacher, Words()) * PAIRS
    reinforce(pairs, teacher, asked, tmp_path, captioner=Words())
    (shard,) = (*tmp_path.glob("*.tar"), *tmp_path.glob("*.safetensors"))
    assert announced == pytest.approx(shard.stat().st_size, rel=0.15)


def test_reinforced_shards_are_opened_if_all_are_there(tmp_path):
    for name in ("reinforcement.json", "reinforced-00001.tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"lacks bad_samples\.txt, which reinforce_dataset\.py writes"):
        load_reinforced(f"{tmp_path}/*.tar")
    (tmp_path / "reinforced-00001.tar").unlink()
    with pytest.raises(ValueError, match="give it as reinforced, and as data what it was made of"):
        load_reinforced(tmp_path)
