"""Captions and their truth, against scenes written by hand."""

import numpy as np

from tasks.iconworld.glyphs import CONCEPTS, FAMILIES
from tasks.iconworld.language import Captions, false_phrases, sample_captions, truth, words
from tasks.iconworld.making.tokenizers import student_tokenizer, teacher_tokenizer
from tasks.iconworld.scenes import COLOUR_NAMES, EMPTY, PERSON_INDEX, Scenes, sample_scenes

DOG, KEY = CONCEPTS.index("dog"), CONCEPTS.index("key")
RED, BLUE = COLOUR_NAMES.index("red"), COLOUR_NAMES.index("blue")


def scene(concepts, colours) -> Scenes:
    """One scene with the given cells (left to right, top to bottom)."""
    zeros, shift, background = np.zeros((1, 4), int), np.zeros((1, 4, 2), int), np.full((1, 3), 240)
    return Scenes(np.zeros(1, int), np.array([concepts]), np.array([colours]), zeros, shift, background)


def claim(*claims, relation=-1) -> Captions:
    padded = [*claims, *[(EMPTY, EMPTY)] * (4 - len(claims))]
    return Captions(["…"], np.array([padded]), np.array([relation]))


def test_truth_of_hand_made_claims():
    here = scene([DOG, KEY, EMPTY, PERSON_INDEX], [RED, BLUE, RED, BLUE])

    def holds(*claims, relation=-1):
        return bool(truth(claim(*claims, relation=relation), here)[0, 0])

    assert holds((DOG, EMPTY))
    assert holds((DOG, RED))
    assert not holds((DOG, BLUE))  # the blue things are a key and a person
    assert holds((EMPTY, BLUE))
    assert holds((DOG, RED), (KEY, BLUE))
    assert not holds((DOG, RED), (KEY, RED))
    assert holds((DOG, EMPTY), (KEY, EMPTY), relation=0)  # the dog is left of the key
    assert not holds((KEY, EMPTY), (DOG, EMPTY), relation=0)
    assert holds((KEY, EMPTY), (DOG, EMPTY), relation=1)
    assert holds((KEY, EMPTY), (PERSON_INDEX, EMPTY), relation=2)  # above
    assert holds((PERSON_INDEX, EMPTY), (KEY, EMPTY), relation=3)  # below
    assert not holds((DOG, EMPTY), (PERSON_INDEX, EMPTY), relation=2)  # across the diagonal


def test_sampled_captions_are_true_of_their_scene_and_rarely_of_others():
    rng = np.random.default_rng(0)
    scenes = sample_scenes(rng, 300, FAMILIES)
    captions = sample_captions(rng, scenes)
    true = truth(captions, scenes)
    assert true.diagonal().all()
    assert true.mean() < 0.1
    for text, claims in zip(captions.texts, captions.claims, strict=True):
        for concept, colour in claims:
            if 0 <= concept < PERSON_INDEX:
                assert CONCEPTS[concept] in text.split()
            if colour != EMPTY:
                assert COLOUR_NAMES[colour] in text.split()


def test_false_phrases_name_nothing_that_is_there():
    rng = np.random.default_rng(1)
    scenes = sample_scenes(rng, 100, FAMILIES)
    for i in range(100):
        cell = int(np.flatnonzero((scenes.concept[i] >= 0) & (scenes.concept[i] < PERSON_INDEX))[0])
        shown = {(c, h) for c, h in zip(scenes.concept[i], scenes.colour[i], strict=True) if c != EMPTY}
        for phrase in false_phrases(rng, scenes, i, cell):
            colour, noun = phrase.split()
            assert (CONCEPTS.index(noun), COLOUR_NAMES.index(colour)) not in shown


def test_vocabularies_know_every_caption_and_spell_any_word():
    rng = np.random.default_rng(3)
    texts = sample_captions(rng, sample_scenes(rng, 500, FAMILIES)).texts
    teacher, student = teacher_tokenizer(), student_tokenizer()
    for tokenizer in (teacher, student):
        for text in (*texts, "zebra crossing, isn't it?", " ".join(words())):
            assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]
    assert teacher.eos_token_id == len(teacher) - 1
    pieces = [len(student.tokenize(concept)) for concept in CONCEPTS]
    assert 1.2 < np.mean(pieces) < 3  # words and sub-words are not the same thing
