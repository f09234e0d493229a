"""Crops in a store: drawn once, replayed, found by keys that name everything that they depend on."""

import dataclasses

import pytest
import torch

from cliptd.data.augmentation import AugmentationPolicy
from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.crops import DrawnCrops
from cliptd.embedding.pair_store import store_pairs
from cliptd.store.reader import StoreMissError, TeacherStore
from cliptd.store.writer import StoreWriter
from cliptd.teachers import load_teacher
from cliptd.training.seeding import seed_generators
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

POLICY = AugmentationPolicy(size=32, scale=(0.3, 0.8), operations=0)
CROPS = DrawnCrops(POLICY, count=3)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), seed=1)))


@pytest.fixture
def pairs():
    return [Pair(f"{k}.png", lambda k=k: tiny_image(k), f"a dog {k}") for k in range(4)]


def test_the_store_holds_what_the_teacher_says_of_the_very_crop(teacher, pairs, tmp_path):
    opened = OpenedPairs(pairs, crop=CROPS)
    assert store_pairs(tmp_path, teacher, opened) == []
    store = TeacherStore.open(tmp_path, teacher)
    assert len(list(store.images)) == 3 * len(pairs)
    collate, seen = StudentTeacherCollator(teacher, source=store), set()
    for epoch in range(6):
        examples = []
        for index in range(len(pairs)):
            seed_generators(0, epoch, index)
            examples.append(opened[index])
        seen |= {example.key for example in examples}
        columns = collate(examples)
        expected = teacher.embed_pixels(columns["pixel_values"])
        torch.testing.assert_close(columns["teacher_image"], expected, rtol=0, atol=1e-3)
    assert len(seen) > 2 * len(pairs)  # not always the same crop
    whole = teacher.encode_images([pair.image() for pair in pairs])
    assert not torch.allclose(expected, whole, atol=1e-2)


def test_crops_that_are_there_are_not_made_and_their_images_not_opened_again(
    teacher, pairs, tmp_path, monkeypatch
):
    store_pairs(tmp_path, teacher, OpenedPairs(pairs[:3], crop=CROPS))
    asked = []
    encode = type(teacher).encode_images
    monkeypatch.setattr(
        type(teacher),
        "encode_images",
        lambda self, images, names: asked.extend(names) or encode(self, images, names),
    )

    def closed():
        raise AssertionError("opened")

    known = [pair._replace(image=closed) for pair in pairs[:3]]
    store_pairs(tmp_path, teacher, OpenedPairs([*known, pairs[3]], crop=CROPS))
    assert asked == [CROPS.key("3.png", number) for number in range(3)]
    store_pairs(tmp_path, teacher, OpenedPairs(pairs, crop=dataclasses.replace(CROPS, count=4)))
    assert len(asked) == 3 + len(pairs)  # one more of each


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(CROPS, seed=1),
        dataclasses.replace(CROPS, policy=dataclasses.replace(POLICY, scale=(0.3, 0.7))),
    ],
)
def test_other_crops_are_never_taken_for_these(other, teacher, pairs, tmp_path):
    store_pairs(tmp_path, teacher, OpenedPairs(pairs, crop=CROPS))
    with pytest.raises(StoreMissError):
        StudentTeacherCollator(teacher, source=TeacherStore.open(tmp_path))(
            [OpenedPairs(pairs, crop=other)[0]]
        )


def test_another_way_of_drawing_has_other_keys(monkeypatch):
    before = CROPS.key("a.png", 0)
    draw = AugmentationPolicy.draw
    monkeypatch.setattr(AugmentationPolicy, "draw", lambda self, picture, seed: draw(self, picture, seed + 1))
    assert DrawnCrops(POLICY, count=3).key("a.png", 0) != before


def test_a_picture_without_crops_is_refused():
    with pytest.raises(ValueError, match="count is 0, expected at least one crop"):
        DrawnCrops(POLICY, count=0)


def test_a_store_of_whole_pictures_lacks_crops(teacher, pairs, tmp_path):
    with StoreWriter(tmp_path, teacher) as writer:
        writer.image_embeds([pair.key for pair in pairs], [pair.image for pair in pairs])
        opened = OpenedPairs(pairs, crop=CROPS)
        text, views = opened.lacking(0, writer.lacks)
        assert text == "a dog 0"
        assert [view.key for view in views] == [CROPS.key("0.png", number) for number in range(3)]
        assert OpenedPairs(pairs).lacking(0, writer.lacks) == ("a dog 0", [])
