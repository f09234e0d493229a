import torch

from tasks.iconworld.making.teacher import AUGMENTED, ScenePairs


def test_every_other_picture_is_augmented_the_same_whenever_it_is_drawn():
    positions = list(range(16, 32))
    whole = ScenePairs(32, seed=3).collate(positions)
    augmented, again = (ScenePairs(32, seed=3, policy=AUGMENTED).collate(positions) for _ in range(2))
    assert torch.equal(augmented["input_ids"], whole["input_ids"])
    assert torch.equal(augmented["truth"], whole["truth"])
    assert torch.equal(augmented["pixel_values"], again["pixel_values"])
    same = (augmented["pixel_values"] == whole["pixel_values"]).flatten(1).all(1)
    assert same[1::2].all()
    assert not same[::2].any()
