"""iconworld as Visual Commonsense Reasoning: items in VCR's official files.

A question is about a person of a scene, and the right choice names an icon that is in the image. As in the real VCR,
most wrong choices are right for other items. One wrong choice is a near miss: the noun in another colour, another noun
in the colour, or colours swapped between the scene's icons. The right choice shares the question's person tag more
often than the wrong ones do, as in the real VCR (Ye & Kovashka, AAAI 2021). So a student can be right for a reason that
is not in the image.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cliptd.utils.files import write_lines
from tasks.iconworld.files.folder import write_once
from tasks.iconworld.glyphs import FAMILIES, SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.language import REASONS, STATEMENTS, article
from tasks.iconworld.scenes import (
    CELLS,
    COLOUR_NAMES,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    Scenes,
    boxes,
    name_of,
    render,
    sample_scenes,
)

QUESTIONS = (
    "What is {s} looking at ?",
    "What does {s} want ?",
    "Why is {s} standing there ?",
    "Why does {s} look so happy ?",
    "What has {s} just found ?",
    "What is so close to {s} ?",
)
PLURAL_QUESTIONS = (
    "What are {s} looking at ?",
    "Why are {s} here ?",
    "What do {s} want to have ?",
)
RIGHT_TAG = (0.65, 0.20, 0.10, 0.05)
WRONG_TAG = (0.35, 0.35, 0.20, 0.10)
"""Shares of the subjects of right and of wrong choices: the question's tag, he or she, another tag, "someone"."""
FORMAT = 3
"""Version of what is drawn and written. It goes up with every change, so that no old copy is taken for a new one."""
NEAR_MISSES = (0.4, 0.4, 0.2)
"""Shares of the near misses: the noun in another colour, another noun in the colour, the colour of the scene's other
icon. CLIP-like teachers hardly know which colour goes with which icon."""
SCENES_PER_MOVIE = 50
ITEMS_PER_SCENE = 2


@dataclass(frozen=True)
class VcrSizes:
    """The number of items in each file."""

    train: int = 6000
    """Number in the icon families that the student saw."""
    val: int = 3000
    """Number in the icon families that the student saw."""
    val_shifted: int = 3000
    """Number in the icon families that the student never saw."""
    test: int = 400
    """Number in the icon families that the student saw, without labels as in the official test file."""


def write_vcr(folder: Path, *, seed: int = 0, sizes: VcrSizes | None = None) -> Path:
    """Write {train,val,val_shifted,test}.jsonl and vcr1images/ to a folder, all in VCR's official format.

    The same seed and font packages give the same files. A finished folder of the same seed and sizes stays as it is.
    """
    sizes = sizes or VcrSizes()
    description = {"format": FORMAT, "seed": seed, "sizes": asdict(sizes)}
    return write_once(folder, description, lambda: _write_files(folder, seed, sizes))


def _write_files(folder: Path, seed: int, sizes: VcrSizes) -> None:
    for number, (split, count) in enumerate(asdict(sizes).items()):
        families = UNSEEN_FAMILIES if split == "val_shifted" else SEEN_FAMILIES
        items = _write_split(folder, split, np.random.default_rng([seed, number]), count, families)
        if split == "test":  # without labels, and without the other keys that tell which choice is right
            items = [
                {
                    key: value
                    for key, value in item.items()
                    if not key.endswith(("_label", "_orig", "_match_iter", "_sources"))
                }
                for item in items
            ]
        write_lines(folder / f"{split}.jsonl", map(json.dumps, items))


def _write_split(
    folder: Path, split: str, rng: np.random.Generator, count: int, families: tuple[str, ...]
) -> list[dict[str, Any]]:
    scenes = sample_scenes(rng, -(-count // ITEMS_PER_SCENE), families, objects=(2, 2), persons=(1, 2))
    scenes = scenes[np.argsort(scenes.family, kind="stable")]
    images, extents = render(scenes), boxes(scenes)
    items: list[dict[str, Any]] = []
    seen_of_family: dict[str, int] = {}
    for i in tqdm(range(len(scenes)), desc=split, unit="image", disable=None):
        family = FAMILIES[scenes.family[i]]
        number = seen_of_family[family] = seen_of_family.get(family, -1) + 1
        movie = f"{split}_{family}_{number // SCENES_PER_MOVIE:03d}"
        stem = f"{movie}/{number % SCENES_PER_MOVIE:03d}"
        cells = rng.permutation(np.flatnonzero(scenes.concept[i] != EMPTY))
        objects = [name_of(scenes.concept[i, cell]) for cell in cells]
        image = folder / "vcr1images" / f"{stem}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i]).save(image)
        metadata = {
            "boxes": [[*map(float, extents[i, cell]), 1.0] for cell in cells],
            "segms": [[] for _ in cells],
            "names": objects,
            "width": IMAGE_SIZE,
            "height": IMAGE_SIZE,
        }
        image.with_suffix(".json").write_text(json.dumps(metadata))
        things = [cell for cell in cells if scenes.concept[i, cell] != PERSON_INDEX]
        for question_number in range(min(ITEMS_PER_SCENE, count - len(items))):
            asked, other = rng.permutation(things)
            item = _item(rng, scenes, i, cells, asked, other)
            items.append(
                {
                    "movie": movie,
                    "objects": objects,
                    "interesting_scores": [0],
                    "answer_likelihood": "likely",
                    "img_fn": f"{stem}.png",
                    "metadata_fn": f"{stem}.json",
                    **item,
                    "img_id": f"{split}-{i}",
                    "question_number": question_number,
                    "annot_id": f"{split}-{len(items)}",
                    "match_fold": f"{split}-0",
                    "match_index": len(items),
                }
            )
    # In no order of family, so that the first items of the file are of all families.
    return [items[k] for k in rng.permutation(len(items))]


def _item(
    rng: np.random.Generator, scenes: Scenes, i: int, cells: np.ndarray, asked: int, other: int
) -> dict[str, Any]:
    """Return the question, the choices and the labels of one item.

    Args:
        asked: the cell of the icon that the right answer names.
        other: the cell of the scene's other icon.
    """
    persons = [k for k, cell in enumerate(cells) if scenes.concept[i, cell] == PERSON_INDEX]
    plural = len(persons) > 1 and rng.random() < 0.3
    tag = sorted(persons) if plural else [int(rng.choice(persons))]
    others = [k for k in persons if k not in tag]
    questions = PLURAL_QUESTIONS if plural else QUESTIONS
    item: dict[str, Any] = {"question": _tokens(questions[rng.integers(len(questions))], tag, "")}
    reason_about = asked if rng.random() < 0.5 else other
    for kind, templates, cell in (("answer", STATEMENTS, asked), ("rationale", REASONS, reason_about)):
        rest = other if cell == asked else asked
        phrases = [
            _phrase(scenes.concept[i, cell], scenes.colour[i, cell]),
            *_false(rng, scenes, i, cell, rest),
        ]
        choices = []
        for k, phrase in enumerate(phrases):
            subject = _subject(rng, RIGHT_TAG if k == 0 else WRONG_TAG, tag, others)
            phrase = article(phrase) if rng.random() < 0.5 else f"the {phrase}"
            choices.append(_tokens(templates[rng.integers(len(templates))], subject, phrase))
        order = rng.permutation(4)
        item |= {
            f"{kind}_choices": [choices[k] for k in order],
            f"{kind}_label": int(np.flatnonzero(order == 0)[0]),
            f"{kind}_match_iter": [int(k) for k in order],
            f"{kind}_sources": [int(k) for k in order],
            f"{kind}_orig": _one_based(choices[0]),
        }
    item["question_orig"] = _one_based(item["question"])
    return item


def _phrase(concept: int, colour: int) -> str:
    return f"{COLOUR_NAMES[colour]} {name_of(concept)}"


def _false(rng: np.random.Generator, scenes: Scenes, i: int, cell: int, rest: int) -> list[str]:
    """Return three phrases that are false of the image; `rest` is the cell of the scene's other icon."""
    noun, colour = scenes.concept[i, cell], scenes.colour[i, cell]
    there = {(c, h) for c, h in zip(scenes.concept[i], scenes.colour[i], strict=True) if c != EMPTY}

    def borrowed() -> tuple[int, int]:
        while True:  # an icon of another item
            j = rng.integers(len(scenes))
            k = rng.choice([k for k in range(CELLS) if 0 <= scenes.concept[j, k] < PERSON_INDEX])
            if scenes.concept[j, k] not in scenes.concept[i]:
                return scenes.concept[j, k], scenes.colour[j, k]

    other_hue = int(rng.choice(np.setdiff1d(np.arange(len(COLOUR_NAMES)), scenes.colour[i])))
    swapped = (noun, scenes.colour[i, rest]) if rng.random() < 0.5 else (scenes.concept[i, rest], colour)
    near = ((noun, other_hue), (borrowed()[0], colour), swapped)
    pairs = [near[rng.choice(3, p=NEAR_MISSES)], borrowed(), borrowed()]
    assert not there.intersection(pairs)
    return [_phrase(*pair) for pair in pairs]


def _subject(
    rng: np.random.Generator, shares: tuple[float, ...], tag: list[int], others: list[int]
) -> list[int] | str:
    kind = rng.choice(4, p=shares)
    if kind == 0:
        return tag
    if kind == 2 and others:
        return [int(rng.choice(others))]
    if kind == 3:
        return "someone"
    return "they" if len(tag) > 1 else str(rng.choice(["he", "she"]))


def _tokens(template: str, subject: list[int] | str, phrase: str) -> list:
    """Return a template as VCR's list of tokens, the first word with a capital."""
    out: list = []
    for word in template.split():
        out.extend([subject] if word == "{s}" else phrase.split() if word == "{o}" else [word])
    if isinstance(out[0], str):
        out[0] = out[0].capitalize()
    return out


def _one_based(tokens: list) -> str:
    return " ".join(" , ".join(str(k + 1) for k in t) if isinstance(t, list) else t for t in tokens)
