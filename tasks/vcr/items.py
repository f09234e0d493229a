"""One line of a VCR annotation file, checked: what was found, what was expected and how to mend it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from cliptd.data.files.jsonl import JsonLines, parsed_lines
from tasks.vcr.names import VCR_CLASSES, mentioned_objects, person_names

NUM_CHOICES = 4
_TEXT_KEYS = ("annot_id", "img_fn", "metadata_fn")


@dataclass(frozen=True)
class VcrItem:
    """A question about an image with four answers and four rationales; labels are None in test files.

    Token lists hold strings and lists of 0-based indices into `objects`. `where` says "file:line, annot_id
    …".
    """

    annot_id: str
    img_fn: str
    metadata_fn: str
    objects: tuple[str, ...]
    question: list
    answer_choices: list
    rationale_choices: list
    answer_label: int | None
    rationale_label: int | None
    where: str

    @cached_property
    def names(self) -> dict[int, str]:
        """Object index → name of each person mentioned anywhere in the item (order of `PERSON_NAMES`)."""
        return self.names_for(None)

    def names_for(self, seed: int | None) -> dict[int, str]:
        """As `names`, but with a seed the order of the names is drawn anew for each item."""
        groups = [self.question, *self.answer_choices], self.rationale_choices
        return person_names(self.objects, groups, annot_id=self.annot_id, seed=seed)


def parse_item(raw: dict, where: str, *, classes: Collection[str] | None = VCR_CLASSES) -> VcrItem:
    """A checked `VcrItem` from a line's dictionary.

    where: "file:line", the beginning of every error message.
    classes: labels that `objects` may hold; None allows any.

    Raises ValueError for a missing key, an unknown object label, an object index out of range, an empty text,
    a wrong number of choices, or a label outside 0..3.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: found a {type(raw).__name__}, expected a VCR item (a JSON object)")
    where = f"{where}, annot_id {raw.get('annot_id')!r}"
    for key in (*_TEXT_KEYS, "objects", "question", "answer_choices", "rationale_choices"):
        if key not in raw:
            raise ValueError(f"{where}: no key {key!r}; expected a line of VCR's {{train,val,test}}.jsonl")
        if key in _TEXT_KEYS and (not isinstance(raw[key], str) or not raw[key]):
            raise ValueError(f"{where}: {key} is {raw[key]!r}, expected a non-empty string")
    objects = raw["objects"]
    if not isinstance(objects, list) or not all(isinstance(label, str) and label for label in objects):
        raise ValueError(f"{where}: objects is {objects!r}, expected a list of class names")
    if classes is not None:
        for index, label in enumerate(objects):
            if label not in classes:
                raise ValueError(
                    f"{where}: objects[{index}] is the unknown label {label!r}, expected one of the "
                    f"{len(classes)} classes (VCR writes COCO's without spaces); for data with other "
                    "classes pass classes=None"
                )
    _check_tokens(raw["question"], "question", objects, where)
    labels = {}
    for kind in ("answer", "rationale"):
        choices = raw[f"{kind}_choices"]
        if not isinstance(choices, list) or len(choices) != NUM_CHOICES:
            found = len(choices) if isinstance(choices, list) else repr(choices)
            raise ValueError(f"{where}: {kind}_choices holds {found} choices, expected {NUM_CHOICES}")
        for index, choice in enumerate(choices):
            _check_tokens(choice, f"{kind}_choices[{index}]", objects, where)
        label = labels[kind] = raw.get(f"{kind}_label")
        if label is not None and (type(label) is not int or not 0 <= label < NUM_CHOICES):
            raise ValueError(
                f"{where}: {kind}_label is {label!r}, expected an integer from 0 to {NUM_CHOICES - 1} "
                "(none in test)"
            )
    return VcrItem(
        annot_id=raw["annot_id"],
        img_fn=raw["img_fn"],
        metadata_fn=raw["metadata_fn"],
        objects=tuple(objects),
        question=raw["question"],
        answer_choices=raw["answer_choices"],
        rationale_choices=raw["rationale_choices"],
        answer_label=labels["answer"],
        rationale_label=labels["rationale"],
        where=where,
    )


def movie_of(raw: dict, where: str) -> str:
    """The movie of a line's dictionary, which only holding out movies needs; raises ValueError for none."""
    movie = raw.get("movie")
    if not isinstance(movie, str) or not movie:
        raise ValueError(
            f"{where}: movie is {movie!r}, expected the movie's name, by which movies are held out; name every line's, "
            "or hold none out"
        )
    return movie


def iterate_items(
    path: str | Path,
    *,
    classes: Collection[str] | None = VCR_CLASSES,
    on_bad_sample: Literal["raise", "skip"] = "raise",
) -> Iterator[tuple[dict, VcrItem]]:
    """Stream a VCR jsonl: each line as it is and as a checked item.

    on_bad_sample: "raise" as `parse_item` and on a broken line, or "skip": leave such lines out and warn.
    """

    def parse(raw: dict, where: str) -> tuple[dict, VcrItem]:
        return raw, parse_item(raw, where, classes=classes)

    return (found for _, found in parsed_lines(JsonLines(path), parse, on_bad_sample))


def _check_tokens(tokens: object, name: str, objects: list[str], where: str) -> None:
    if (
        not isinstance(tokens, list)
        or not tokens
        or all(isinstance(t, str) and not t.strip() for t in tokens)
    ):
        raise ValueError(
            f"{where}: {name} is empty ({tokens!r}), expected a list of words and object indices"
        )
    for token in tokens:
        if isinstance(token, str):
            continue
        if not isinstance(token, list) or not token or not all(type(index) is int for index in token):
            raise ValueError(
                f"{where}: {name} holds {token!r}, expected a string or a non-empty list of object indices"
            )
    for index in mentioned_objects(tokens):
        if not 0 <= index < len(objects):
            raise ValueError(
                f"{where}: {name} mentions object {index}, but the item has {len(objects)} objects "
                "(0-based indices; the *_orig strings are the 1-based ones)"
            )
