"""Glyphs and scenes: what is drawn is what the arrays say."""

import numpy as np
import pytest

from tasks.iconworld.glyphs import (
    CONCEPTS,
    FAMILIES,
    SEEN_FAMILIES,
    SIZES,
    UNSEEN_FAMILIES,
    draws,
    glyph_mask,
    mask_bank,
)
from tasks.iconworld.scenes import (
    CELLS,
    COLOUR_NAMES,
    COLOURS,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    boxes,
    render,
    sample_scenes,
)


def test_about_a_hundred_concepts_each_drawn_by_five_families_or_more():
    assert len(CONCEPTS) >= 95
    assert all(sum(draws(family, concept) for family in FAMILIES) >= 5 for concept in CONCEPTS)
    assert set(SEEN_FAMILIES) | set(UNSEEN_FAMILIES) == set(FAMILIES)
    assert not set(SEEN_FAMILIES) & set(UNSEEN_FAMILIES)


def test_masks_have_the_asked_size_and_differ_between_concepts():
    bank = mask_bank()
    for family in range(len(FAMILIES)):
        drawn = [c for c in range(len(CONCEPTS)) if draws(FAMILIES[family], CONCEPTS[c])]
        for size in range(len(SIZES)):
            ink = bank[family, drawn, size] > 0
            height, width = ink.any(2).sum(1), ink.any(1).sum(1)
            assert (np.maximum(height, width) <= SIZES[size]).all()
            assert (np.maximum(height, width) >= 0.7 * SIZES[size]).all()
        flat = bank[family, drawn, -1].reshape(len(drawn), -1)
        assert len(np.unique(flat, axis=0)) == len(drawn)


def test_a_wrong_glyph_or_family_is_named():
    with pytest.raises(KeyError, match="no glyph 'no-such-icon'"):
        glyph_mask("material", "no-such-icon", 24, 32)
    with pytest.raises(ValueError, match="unknown icon family 'times'"):
        glyph_mask("times", "airplane", 24, 32)


def test_scenes_are_a_function_of_the_seed_and_obey_the_counts():
    first, again, other = (sample_scenes(np.random.default_rng(s), 200, FAMILIES) for s in (0, 0, 1))
    assert (first.concept == again.concept).all()
    assert (first.shift == again.shift).all()
    assert (first.concept != other.concept).any()
    persons = (first.concept == PERSON_INDEX).sum(1)
    objects = ((first.concept != EMPTY) & (first.concept != PERSON_INDEX)).sum(1)
    assert persons.max() == 2
    assert objects.min() == 1
    assert objects.max() == 3
    for row, colours in zip(first.concept, first.colour, strict=True):
        things = row[(row != EMPTY) & (row != PERSON_INDEX)]
        assert len(set(things)) == len(things)
        assert len(set(colours)) == CELLS


def test_every_icon_is_in_its_box_in_its_colour_and_nothing_is_outside():
    scenes = sample_scenes(np.random.default_rng(2), 64, FAMILIES)
    pictures, extents = render(scenes).astype(int), boxes(scenes)
    assert pictures.shape == (64, IMAGE_SIZE, IMAGE_SIZE, 3)
    for i in range(len(scenes)):
        outside = np.ones((IMAGE_SIZE, IMAGE_SIZE), bool)
        for cell in range(CELLS):
            x1, y1, x2, y2 = extents[i, cell]
            if scenes.concept[i, cell] == EMPTY:
                assert (x1, y1, x2, y2) == (0, 0, 0, 0)
                continue
            outside[y1:y2, x1:x2] = False
            inked = np.abs(pictures[i] - scenes.background[i]).sum(-1)[y1:y2, x1:x2]
            y, x = np.unravel_index(inked.argmax(), inked.shape)
            strongest = pictures[i, y1 + y, x1 + x]
            name = COLOUR_NAMES[scenes.colour[i, cell]]
            nearest = min(COLOURS, key=lambda c: np.abs(np.array(COLOURS[c]) - strongest).sum())
            assert nearest == name
            # the box is tight: each of its edges touches ink
            assert inked[0].any()
            assert inked[-1].any()
            assert inked[:, 0].any()
            assert inked[:, -1].any()
        assert (pictures[i][outside] == scenes.background[i]).all()
