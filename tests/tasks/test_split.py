"""What may be labelled, and what may not."""

import pytest

from tasks.split import LowShotSplit


def test_a_training_item_without_label_is_named():
    split = LowShotSplit(validation_items=2)
    ids, images = [f"item-{k}" for k in range(8)], [str(k) for k in range(8)]
    chosen, held_out, description = split.draw(ids, images, [0, 1] * 4, seed=0)
    assert len(chosen) == description["labelled_items"] == 6
    assert len(held_out) == 2
    with pytest.raises(
        ValueError, match="2 training items have no label, the first is item-3; leave them out"
    ):
        split.draw(ids, images, [0, 1, 0, None, 0, 1, None, 1], seed=0)
