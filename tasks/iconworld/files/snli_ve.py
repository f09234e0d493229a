"""iconworld as SNLI-VE: hypotheses that an image entails, contradicts or leaves open.

Three kinds of hypotheses name an icon that is in the image or not, and no kind tells the label:
- what is "in the picture" is entailed or contradicted;
- what is "somewhere near here" is entailed, or neutral if it is out of sight;
- what somebody wants or thinks is neutral about a thing that is there, and a contradiction about one that is not.

As in the real data, some labels can be guessed from the hypothesis alone: only contradictions say "nobody", and they
name more colours. The file "snli_ve_shifted" is drawn in families that the student never saw.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cliptd.utils.files import write_lines
from tasks.batches.proposals import write_proposals
from tasks.iconworld.files.folder import PROPOSALS, write_once
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.language import PRONOUNS, article
from tasks.iconworld.scenes import (
    COLOUR_NAMES,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    Scenes,
    allowed_concepts,
    name_of,
    sample_scenes,
    save_images,
)
from tasks.snli_ve.labels import LABELS

FORMAT = 1
"""Version of what is drawn and written. It goes up with every change, so that no old copy is taken for a new one."""
PAIRS_PER_SCENE = 6
SEEN = (
    "{o} is in the picture together with {s} .",
    "one can see {o} here .",
    "there is {o} and {s} is very near it .",
    "you can see {o} right beside {s} .",
    "{s} is only a few steps away from {o} .",
    "{s} is standing close to {o} .",
)
THOUGHT = (
    "{s} wants to take {o} home .",
    "{s} keeps talking about {o} .",
    "{s} came here to pick up {o} .",
    "{s} likes {o} very much .",
    "it is {o} that {s} needs today .",
)
NEARBY = (
    "somewhere near here there is {o} .",
    "{s} has {o} somewhere around here .",
    "people often stay around {o} near here .",
    "{o} is only a few steps away from here .",
)
DENIED = ("nobody is close to {o} .", "nobody can see {o} here .")
KINDS = {"entailment": (SEEN, NEARBY), "neutral": (NEARBY, THOUGHT), "contradiction": (THOUGHT, SEEN)}
"""The two kinds of hypotheses of each label. Each kind belongs to two labels."""
DENIED_SHARE = 0.15
"""Share of the contradictions that deny what is there."""
COLOUR_SHARE = {"entailment": 0.5, "neutral": 0.5, "contradiction": 0.7}
"""Share of the hypotheses that name the colour. Those with a false colour always name it."""
NO_AGREEMENT = 0.02
"""Share of the pairs with the label "-", on which annotators do not agree."""


@dataclass(frozen=True)
class SnliVeSizes:
    """The number of pairs in each file."""

    train: int = 6000
    """Number in the icon families that the student saw."""
    dev: int = 3000
    """Number in the icon families that the student saw."""
    test: int = 3000
    """Number in the icon families that the student saw."""
    shifted: int = 3000
    """Number in the icon families that the student never saw."""


def write_snli_ve(folder: Path, *, seed: int = 0, sizes: SnliVeSizes | None = None) -> Path:
    """Write snli_ve_{train,dev,test,shifted}.jsonl, the images and the icons' boxes in proposals.jsonl to a folder.

    The same seed and font packages give the same files. A finished folder of the same seed and sizes stays as it is.
    """
    sizes = sizes or SnliVeSizes()
    description = {"task": "snli_ve", "format": FORMAT, "seed": seed, "sizes": asdict(sizes)}
    return write_once(folder, description, lambda: _write_files(folder, seed, sizes))


def _write_files(folder: Path, seed: int, sizes: SnliVeSizes) -> None:
    from tasks.snli_ve.data import IMAGES  # only here: the sizes are parsed without torch

    proposals: list[tuple] = []
    for number, (split, count) in enumerate(asdict(sizes).items()):
        rng = np.random.default_rng([seed, 2, number])
        families = UNSEEN_FAMILIES if split == "shifted" else SEEN_FAMILIES
        scenes = sample_scenes(rng, -(-count // PAIRS_PER_SCENE), families, objects=(2, 3), persons=(1, 1))
        image_ids = [str(10_000_000 * (number + 1) + i) for i in range(len(scenes))]
        names = [f"{image_id}.jpg" for image_id in image_ids]
        extents = save_images(scenes, [folder / IMAGES / name for name in names])
        proposals += [(name, (IMAGE_SIZE, IMAGE_SIZE), own) for name, own in zip(names, extents, strict=True)]
        pairs: list[dict[str, Any]] = []
        for i, image_id in enumerate(image_ids):
            for k in range(min(PAIRS_PER_SCENE, count - len(pairs))):
                pairs.append(_pair(rng, scenes, i, LABELS[k % 3], image_id, k))
        write_lines(
            folder / f"snli_ve_{split}.jsonl", (json.dumps(pairs[k]) for k in rng.permutation(len(pairs)))
        )
    write_proposals(folder / PROPOSALS, proposals)


def _pair(
    rng: np.random.Generator, scenes: Scenes, i: int, label: str, image_id: str, k: int
) -> dict[str, Any]:
    hypothesis = _hypothesis(rng, scenes, i, label)
    agreed = rng.random() >= NO_AGREEMENT
    others = [one for one in LABELS if one != label]
    told = [label] * 4 + [str(rng.choice(others))] if agreed else [label] * 2 + others + [others[0]]
    things = [name_of(c) for c in scenes.concept[i] if 0 <= c < PERSON_INDEX]
    return {
        "Flickr30K_ID": image_id,
        "annotator_labels": told,
        "captionID": f"{image_id}.jpg#0",
        "gold_label": label if agreed else "-",
        "pairID": f"{image_id}.jpg#0r{k}{label[0]}",
        "sentence1": f"a person and {' , '.join(map(article, things))} .",
        "sentence2": hypothesis,
    }


def _hypothesis(rng: np.random.Generator, scenes: Scenes, i: int, label: str) -> str:
    things = np.flatnonzero((scenes.concept[i] != EMPTY) & (scenes.concept[i] != PERSON_INDEX))
    cell = int(rng.choice(things))
    noun, colour = scenes.concept[i, cell], scenes.colour[i, cell]
    with_colour = rng.random() < COLOUR_SHARE[label]
    templates = KINDS[label][rng.integers(2)]
    there = label == "entailment" or (label == "neutral" and templates is THOUGHT)
    if label == "contradiction" and rng.random() < DENIED_SHARE:
        templates, there = DENIED, True
    if not there:  # the icon in another colour, or another noun
        if label == "contradiction" and rng.random() < 0.3:
            colour = rng.choice(np.setdiff1d(np.arange(len(COLOUR_NAMES)), scenes.colour[i]))
            with_colour = True
        else:
            noun = rng.choice(np.setdiff1d(allowed_concepts(scenes.family[i]), scenes.concept[i]))
    words = f"{COLOUR_NAMES[colour]} {name_of(noun)}" if with_colour else name_of(noun)
    phrase = article(words) if rng.random() < 0.5 else f"the {words}"
    subject = "the person" if rng.random() < 0.5 else str(rng.choice(PRONOUNS[:3]))
    text = templates[rng.integers(len(templates))].format(s=subject, o=phrase)
    return text[0].upper() + text[1:]
