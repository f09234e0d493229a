"""What may be labelled, and what may not."""

import pytest

from tasks.vcr.split import VcrSplit


def test_a_training_item_without_label_is_named():
    split = VcrSplit(validation_items=2)
    ids, images = [f"item-{k}" for k in range(8)], [str(k) for k in range(8)]
    chosen, held_out, description = split.draw(ids, images, [0, 1] * 4, seed=0)
    assert len(chosen) == description["labelled_items"] == 6
    assert len(held_out) == 2
    with pytest.raises(
        ValueError,
        match="2 training items have no label, the first is item-3; remove them from the training file",
    ):
        split.draw(ids, images, [0, 1, 0, None, 0, 1, None, 1], seed=0)


@pytest.mark.parametrize(("items", "expected"), [(30, 6), (3, 1), (5000, 1000), (9000, 1000)])
def test_validation_takes_no_more_than_a_fifth_if_no_number_is_given(items, expected):
    ids = range(items)
    chosen, held_out, _ = VcrSplit().draw(ids, ids, [0] * items, seed=0)
    assert (len(chosen), len(held_out)) == (items - expected, expected)


@pytest.mark.parametrize("count", [0, 28, 1000])
def test_a_number_that_leaves_nothing_to_train_on_is_refused_by_its_name(count):
    images = [k // 3 for k in range(30)]  # three questions an image
    draw = VcrSplit(validation_items=count).draw
    with pytest.raises(
        ValueError, match=rf"^validation_items is {count}, expected 1 to 27: of 30 training items"
    ):
        draw(range(30), images, [0] * 30, seed=0)
    with pytest.raises(ValueError, match="30 training items of 1 images; expected two images at least"):
        draw(range(30), [0] * 30, [0] * 30, seed=0)
    assert len(VcrSplit(validation_items=27).draw(range(30), images, [0] * 30, seed=0)[0]) == 3


def test_too_many_labelled_items_are_refused_with_what_validation_took():
    split = VcrSplit(items=25, validation_items=6)
    with pytest.raises(
        ValueError, match=r"items is 25, expected 1 to 24, the training items beside 6 for valid"
    ):
        split.draw(range(30), range(30), [0] * 30, seed=0)
