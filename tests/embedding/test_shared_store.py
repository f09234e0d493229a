"""Two processes write one store of pairs, each its share of it."""

import socket

import pytest
import torch
from store_worker import BAD, pairs_of, work
from tiny_clip import tiny_open_clip_folder

from cliptd.embedding.pairs import OpenedPairs, store_pairs
from cliptd.store import TeacherStore
from cliptd.store_writer import StoreWriter
from cliptd.teachers import load_teacher

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
