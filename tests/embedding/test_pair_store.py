"""The store of pairs: two processes each write a share of it, and a complete one is not read again."""

import json
import socket

import pytest
import torch

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs
from cliptd.embedding.crops import DrawnCrops
from cliptd.embedding.pair_store import _Filling, store_pairs
from cliptd.store.reader import TeacherStore
from cliptd.store.writer import StoreWriter
from cliptd.teachers import load_teacher
from cliptd.unpaired.images_and_sentences import KeyedImage, UnpairedPairs
from tests.helpers.store_worker import BAD, pairs_of, work
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

COMPLAINT = [f"image {BAD}.png is corrupt"]


@pytest.fixture
def folder(tmp_path):
    return tiny_open_clip_folder(tmp_path / "teacher", seed=1)


def write_by_two(folder, out):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (port, str(folder), str(out)), nprocs=2)
    return [torch.load(out / f"{index}.pt") for index in range(2)]


def test_two_processes_write_the_store_of_one(folder, tmp_path):
    teacher = load_teacher(str(folder))
    assert (
        store_pairs(tmp_path / "single", teacher, OpenedPairs(pairs_of([]), on_bad_sample="skip"))
        == COMPLAINT
    )
    found = write_by_two(folder, tmp_path)
    assert [sorted(set(one["opened"])) for one in found] == [
        ["0.png", "1.png", "2.png", "3.png"],
        ["0.png", "4.png", "5.png", "6.png", "7.png"],
    ]
    assert [one["bad"] for one in found] == [COMPLAINT] * 2
    one, two = (TeacherStore.open(tmp_path / name, teacher) for name in ("single", "store"))
    assert one.counts == two.counts == {"images": 7, "regions": 0, "texts": 3}
    assert one.identity == two.identity
    torch.testing.assert_close(two.image_embeds(list(one.images)), one.image_embeds(list(one.images)))
    torch.testing.assert_close(two.text_embeds(list(one.texts)), one.text_embeds(list(one.texts)))
    assert not list((tmp_path / "store").glob("part-*"))


def test_what_the_store_or_a_part_of_a_killed_run_holds_is_not_opened_again(folder, tmp_path):
    teacher, asked = load_teacher(str(folder)), []
    pairs = pairs_of(asked)
    for name, number in (("store", 1), ("store/part-5", 4)):
        with StoreWriter(tmp_path / name, teacher) as writer:
            writer.image_embeds([pairs[number].key], [pairs[number].image])
    opened = [key for one in write_by_two(folder, tmp_path) for key in one["opened"]]
    assert set(opened) == {f"{number}.png" for number in (0, 2, 3, 5, 6, 7)}
    assert TeacherStore.open(tmp_path / "store", teacher).counts["images"] == 7


def test_runs_share_a_store_that_lacks_nothing_and_a_second_writer_is_refused(folder, tmp_path):
    teacher, store = load_teacher(str(folder)), tmp_path / "store"
    pairs = OpenedPairs(pairs_of([]), on_bad_sample="skip")
    store_pairs(store, teacher, pairs)
    with StoreWriter(store, teacher):  # as another run that is writing
        assert store_pairs(store, teacher, pairs) == COMPLAINT
        more = OpenedPairs([pair._replace(text="unheard of") for pair in pairs.pairs], on_bad_sample="skip")
        with pytest.raises(BlockingIOError, match="is being written by process"):
            store_pairs(store, teacher, more)
    store_pairs(store, teacher, more)
    assert TeacherStore.open(store, teacher).counts["texts"] == 4


class Counted(list):
    """Pairs that say when they change, and count how often they are asked for."""

    def __init__(self, pairs, state="as they are"):
        super().__init__(pairs)
        self.state, self.asked = state, 0

    def __getitem__(self, index):
        self.asked += 1
        return super().__getitem__(index)


def test_data_whose_embeddings_are_all_there_are_not_gone_through_again(folder, tmp_path):
    teacher, store = load_teacher(str(folder)), tmp_path / "store"
    good = [pair for pair in pairs_of([]) if pair.key != f"{BAD}.png"]

    def asked(pairs, **options):
        """Return how often pairs are read, without the three whose keys tell whether the data have moved."""
        pairs.asked = 0
        assert store_pairs(store, teacher, OpenedPairs(pairs, **options)) == []
        return pairs.asked - 3

    pairs = Counted(good)
    assert asked(pairs) == 8
    assert asked(pairs) == 0
    assert asked(Counted([pair._replace(key=f"there/{pair.key}") for pair in good])) == 8
    assert asked(Counted([pair._replace(text="a changed text") for pair in good], state="edited")) == 8
    crops = DrawnCrops(AugmentationPolicy(size=16, operations=0), 2)
    assert asked(pairs, crop=crops) == 8
    assert asked(pairs, crop=crops) == 0
    assert TeacherStore.open(store, teacher).counts == {"images": 7 + 7 + 14, "regions": 0, "texts": 4}
    silent = Counted(good, state=None)
    assert asked(silent) == asked(silent) == 8
    for shard in store.glob("images-*"):  # the note is of embeddings that are not there
        shard.unlink()
    index = json.loads((store / "index.json").read_text())
    index["shards"] = [shard for shard in index["shards"] if shard["kind"] != "images"]
    (store / "index.json").write_text(json.dumps(index))
    assert asked(pairs) == 8
    assert TeacherStore.open(store, teacher).counts["images"] == 7


def test_what_was_wrong_is_tried_again(folder, tmp_path):
    teacher, store, broken = load_teacher(str(folder)), tmp_path / "store", [True]

    def opened():
        if broken[0]:
            raise ValueError("image x.png is corrupt")
        return tiny_image(9)

    pairs = Counted([*pairs_of([])[:3], *(Pair("x.png", opened, f"caption {k}") for k in range(3))])
    opened_pairs = OpenedPairs(pairs, on_bad_sample="skip")
    assert store_pairs(store, teacher, opened_pairs, batch_size=1) == ["image x.png is corrupt"] * 3
    broken[0] = False
    assert store_pairs(store, teacher, opened_pairs) == []
    assert not TeacherStore.open(store, teacher).lacks("x.png")
    assert not TeacherStore.open(store, teacher).lacks("caption 2", "texts")


@pytest.mark.parametrize("counts", [(3, 40), (40, 3)])
def test_either_side_of_unpaired_data_is_embedded_once_by_any_number_of_processes(folder, tmp_path, counts):
    class Lines(list):
        name = "lines"

        def part(self, start, stop):
            return self[start:stop]

    class Photos(list):
        name = "photos"

    teacher = load_teacher(str(folder))
    images = Photos(KeyedImage(f"{n}.png", tiny_image(n % 8)) for n in range(counts[0]))
    lines = Lines(f"a dog {n}" for n in range(counts[1]))
    opened = OpenedPairs(UnpairedPairs(images, lines))
    found = {"images": [], "texts": []}
    for rank in range(8):
        _Filling(tmp_path / str(rank), tmp_path / "none", teacher, 4).fill(opened, rank, 8)
        if (tmp_path / str(rank) / "index.json").exists():
            part = TeacherStore.open(tmp_path / str(rank), teacher)
            found["images"] += part.images
            found["texts"] += part.texts
    assert sorted(found["images"]) == sorted(image.key for image in images)
    assert sorted(found["texts"]) == sorted(lines)
    store_pairs(tmp_path / "single", teacher, opened)
    assert TeacherStore.open(tmp_path / "single", teacher).counts == {
        "images": counts[0], "regions": 0, "texts": counts[1],
    }  # fmt: skip
