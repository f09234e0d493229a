"""The language of iconworld: phrases, captions, and which caption is true of which scene.

One small grammar serves the teacher's captions, the student's pre-training and the VCR items, so the teacher has read
the words of the tasks. Filler words carry no information about the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tasks.iconworld.glyphs import CONCEPTS, PERSON
from tasks.iconworld.scenes import (
    CELLS,
    COLOUR_NAMES,
    EMPTY,
    PERSON_INDEX,
    Scenes,
    allowed_concepts,
    name_of,
)

Item = TypeVar("Item")

RELATIONS = ("left of", "right of", "above", "below")
_PAIRS = (  # for each relation, the cell pairs (a, b) for which "a is <relation> b"
    ((0, 1), (2, 3)),
    ((1, 0), (3, 2)),
    ((0, 2), (1, 3)),
    ((2, 0), (3, 1)),
)

STATEMENTS = (
    "{s} is looking at {o} .",
    "{s} is holding {o} .",
    "{s} is pointing at {o} .",
    "{s} is reaching for {o} .",
    "{s} has just found {o} here .",
    "{s} wants to take {o} home .",
    "{s} is standing close to {o} .",
    "{s} keeps talking about {o} .",
    "because {s} likes {o} very much .",
    "{s} is walking over to {o} .",
    "{s} came here to pick up {o} .",
    "it is {o} that {s} needs today .",
)
REASONS = (
    "you can see {o} right beside {s} .",
    "{o} is in the picture together with {s} .",
    "there is {o} and {s} is very near it .",
    "{s} is only a few steps away from {o} .",
    "since {o} is here , {s} must have noticed it .",
    "{s} could touch {o} without moving much .",
    "people like {s} often stay around {o} .",
    "nobody but {s} is so close to {o} .",
)
_PARTIAL = (
    "a photo of {a}",
    "a picture of {a}",
    "there is {a} in the picture",
    "{a}",
    "{a} and other things",
    "one can see {a} here",
)
PRONOUNS = ("he", "she", "someone", "they")


def article(noun_phrase: str) -> str:
    """Return the phrase with "a" or "an" before it.

    >>> article("orange key"), article("red key")
    ('an orange key', 'a red key')
    """
    return f"{'an' if noun_phrase[0] in 'aeiou' else 'a'} {noun_phrase}"


def noun_phrase(scenes: Scenes, scene: int, cell: int, *, with_colour: bool) -> str:
    """Return the words for the icon in a cell, such as "umbrella" or "red umbrella"."""
    noun = name_of(scenes.concept[scene, cell])
    return f"{COLOUR_NAMES[scenes.colour[scene, cell]]} {noun}" if with_colour else noun


def false_phrases(rng: np.random.Generator, scenes: Scenes, scene: int, cell: int) -> list[str]:
    """Return three phrases that are false of the scene.

    They are the icon in another colour, another noun in its colour, and another noun in another colour.
    """
    concept, colour = scenes.concept[scene, cell], scenes.colour[scene, cell]
    other = int(_choice(rng, np.setdiff1d(allowed_concepts(scenes.family[scene]), scenes.concept[scene])))
    third = int(_choice(rng, np.setdiff1d(np.arange(len(CONCEPTS)), [*scenes.concept[scene], other])))
    hues = rng.permutation(np.setdiff1d(np.arange(len(COLOUR_NAMES)), [colour]))
    pairs = ((concept, hues[0]), (other, colour), (third, hues[1]))
    return [f"{COLOUR_NAMES[hue]} {name_of(noun)}" for noun, hue in pairs]


@dataclass
class Captions:
    """`m` captions and the claims that each makes, as arrays.

    Attributes:
        texts: m captions.
        claims: (m, 4, 2) concept and colour of up to four icons; EMPTY for what is not claimed.
        relation: (m,) index into RELATIONS of the relation between the first two claims, or -1.
    """

    texts: list[str]
    claims: np.ndarray
    relation: np.ndarray


def sample_captions(rng: np.random.Generator, scenes: Scenes) -> Captions:
    """Return a true caption of each scene: of a part, a statement with filler, of the whole scene, or key words."""
    texts: list[str] = []
    claims = np.full((len(scenes), CELLS, 2), EMPTY)
    relation = np.full(len(scenes), -1)
    for i in range(len(scenes)):
        cells = rng.permutation(np.flatnonzero(scenes.concept[i] != EMPTY))
        kind, colour = rng.random(), rng.random() < 0.6
        if kind < 0.3:
            said = [(cells[0], colour)]
            phrase = noun_phrase(scenes, i, cells[0], with_colour=colour)
            text = _choice(rng, _PARTIAL).format(a=article(phrase))
        elif kind < 0.6:
            text, said = _statement(rng, scenes, i, cells, colour)
        elif kind < 0.75 and (pair := _related(rng, cells)):
            said = [(pair[0], colour), (pair[1], colour)]
            relation[i] = pair[2]
            a, b = (article(noun_phrase(scenes, i, c, with_colour=colour)) for c in pair[:2])
            text = f"{a} {'is ' if rng.random() < 0.5 else ''}{RELATIONS[pair[2]]} {b}"
        elif kind < 0.85:
            said = [(c, colour) for c in cells]
            phrases = [article(noun_phrase(scenes, i, c, with_colour=colour)) for c in cells]
            text = phrases[0] if len(phrases) == 1 else f"{' , '.join(phrases[:-1])} and {phrases[-1]}"
        else:
            said = [(c, rng.random() < 0.5) for c in cells[: rng.integers(1, 4)]]
            text = " ".join(noun_phrase(scenes, i, c, with_colour=with_colour) for c, with_colour in said)
        for k, (cell, with_colour) in enumerate(said):
            claims[i, k] = scenes.concept[i, cell], scenes.colour[i, cell] if with_colour else EMPTY
        texts.append(text)
    return Captions(texts, claims, relation)


def _choice(rng: np.random.Generator, options: "Sequence[Item] | np.ndarray") -> Item:
    return options[int(rng.integers(len(options)))]


def _statement(
    rng: np.random.Generator, scenes: Scenes, i: int, cells: np.ndarray, colour: bool
) -> tuple[str, list[tuple[int, bool]]]:
    """Return a statement or reason about one icon, and the cells that it names, each with or without its colour.

    Its subject is a person of the scene or a pronoun.
    """
    people = [c for c in cells if scenes.concept[i, c] == PERSON_INDEX]
    things = [c for c in cells if scenes.concept[i, c] != PERSON_INDEX] or list(cells)
    subject = _choice(rng, PRONOUNS)
    said = [(things[0], colour)]
    if people and rng.random() < 0.6:
        subject = "person and person" if len(people) > 1 and rng.random() < 0.2 else "person"
        said.append((people[0], False))
    phrase = noun_phrase(scenes, i, things[0], with_colour=colour)
    phrase = article(phrase) if rng.random() < 0.5 else f"the {phrase}"
    return _choice(rng, STATEMENTS + REASONS).format(s=subject, o=phrase), said


def _related(rng: np.random.Generator, cells: np.ndarray) -> tuple[int, int, int] | None:
    """Return two of the cells and the relation between them, or None if no two are in line."""
    options = [(a, b, r) for r, pairs in enumerate(_PAIRS) for a, b in pairs if a in cells and b in cells]
    return _choice(rng, options) if options else None


def truth(captions: Captions, scenes: Scenes) -> np.ndarray:
    """Return which caption is true of which scene: (m captions, n scenes) bool."""
    claims = captions.claims[:, None, :, None, :]  # caption, scene, claim, cell, (concept, colour)
    concept, colour = scenes.concept[None, :, None, :], scenes.colour[None, :, None, :]
    holds = (claims[..., 0] == EMPTY) | (claims[..., 0] == concept)
    holds &= (claims[..., 1] == EMPTY) | (claims[..., 1] == colour)
    holds &= concept != EMPTY
    unclaimed = (captions.claims == EMPTY).all(-1)[:, None, :]
    true = (holds.any(-1) | unclaimed).all(-1)
    for r, pairs in enumerate(_PAIRS):
        rows = np.flatnonzero(captions.relation == r)
        first, second = holds[rows][:, :, 0], holds[rows][:, :, 1]
        true[rows] &= np.any([first[..., a] & second[..., b] for a, b in pairs], axis=0)
    return true


def words() -> list[str]:
    """Return every word of the grammar, sorted; a vocabulary must hold them."""
    text = " ".join((*STATEMENTS, *REASONS, *_PARTIAL, *RELATIONS, *PRONOUNS, "a an the and is , . ?"))
    text = text.replace("{s}", "").replace("{o}", "").replace("{a}", "")
    return sorted({*text.split(), *CONCEPTS, PERSON, *COLOUR_NAMES})
