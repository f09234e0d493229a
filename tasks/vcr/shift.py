"""Domain shift on VCR: edits that break the tag-matching shortcut, and held-out movies.

Rule-Singular and Rule-Plural follow Ye & Kovashka (AAAI 2021): the right choices lose the tag they share with
the question, the wrong ones gain it. Both are pure functions on one item as `json.loads` gives it.

    python -m tasks.vcr.shift --rule singular --annotations val.jsonl --out val_singular.jsonl
    python -m tasks.vcr.shift --rule movies --hold-out movieclips --annotations train.jsonl --out split.json
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from cliptd.utils.files import write_lines
from tasks.vcr.items import iterate_items, movie_of

HE_WORDS = {"he", "his", "him", "He", "His", "Him"}
SHE_WORDS = {"she", "her", "hers", "She", "Her", "Hers"}
HE_SHE = {"he", "she", "He", "She"}
THEY = {"they", "They"}


def rule_singular(item: dict) -> dict | None:
    """The item with its choices edited by Rule-Singular; None if the rule does not keep it.

    Kept: the question names exactly one distinct person tag. A choice is edited if its distinct person tags
    and its distinct words among he/she (any case) are one together. Right choice: each token equal to that
    one-tag group becomes the pronoun (majority of he- against she-words in the choice, on a tie with the
    question's too, else "he"), capitalised if first. Wrong choice: that group and each he/she/He/She become
    the question's tag. Every other key of the item is left as it is.

    Raises ValueError if the item has no labels.
    """
    persons = _person_tags(item["question"], item["objects"])
    if len(persons) != 1:
        return None

    def edit(choice: list, right: bool) -> list | None:
        tags = _person_tags(choice, item["objects"])
        pronouns = {token.lower() for token in choice if isinstance(token, str)} & {"he", "she"}
        if len(tags) + len(pronouns) != 1:
            return None
        if right:
            return _replace(
                choice, lambda token: token == tags, lambda i: _pronoun(choice, item["question"], i)
            )
        return _replace(
            choice, lambda token: token == tags or _is_word(token, HE_SHE), lambda i: list(persons)
        )

    return _edit_choices(item, edit)


def rule_plural(item: dict, *, verbatim_groups: bool = False) -> dict | None:
    """The item with its choices edited by Rule-Plural; None if the rule does not keep it.

    Kept: the question has exactly one tag group, all persons, two or more. A choice is edited if it has
    exactly one such group or contains they/They. Right choice: the group becomes "they", "They" if first.
    Wrong choice: the group and they/They become the question's group. Groups are compared, and written, in
    sorted order.

    verbatim_groups: True leaves a choice's group alone that is not written in ascending order, as the
        published scripts do (they compare a group as written with its sorted self).

    Raises ValueError if the item has no labels.
    """
    question_group = _only_person_group(item["question"], item["objects"])
    if question_group is None:
        return None

    def edit(choice: list, right: bool) -> list | None:
        group = _only_person_group(choice, item["objects"])
        if group is None and not any(_is_word(token, THEY) for token in choice):
            return None

        def is_group(token: str | list) -> bool:
            if isinstance(token, str) or group is None:
                return False
            return (token if verbatim_groups else sorted(token)) == group

        if right:
            return _replace(choice, is_group, lambda i: "They" if i == 0 else "they")
        return _replace(
            choice, lambda token: is_group(token) or _is_word(token, THEY), lambda i: list(question_group)
        )

    return _edit_choices(item, edit)


RULES = {"singular": rule_singular, "plural": rule_plural}


def apply_rule(rule: str, items: Iterable[dict], counts: Counter | None = None) -> Iterable[dict]:
    """Stream of the items that a rule ("singular" or "plural") keeps, edited.

    counts: filled with items, kept, and answer_choices / rationale_choices that read differently from before.
    """
    counts = Counter() if counts is None else counts
    edit_item = RULES[rule]
    for item in items:
        counts["items"] += 1
        edited = edit_item(item)
        if edited is None:
            continue
        counts["kept"] += 1
        for key in ("answer_choices", "rationale_choices"):
            counts[key] += sum(old != new for old, new in zip(item[key], edited[key], strict=True))
        yield edited


def write_shifted(
    rule: str, annotations: str | Path, out: str | Path, *, on_bad_sample: Literal["raise", "skip"] = "raise"
) -> dict[str, int]:
    """Write the items of a labelled jsonl that a rule keeps, edited; returns `apply_rule`'s counts.

    on_bad_sample: as for `iterate_items`.
    """
    counts = Counter(dict.fromkeys(("items", "kept", "answer_choices", "rationale_choices"), 0))
    items = (raw for raw, _ in iterate_items(annotations, classes=None, on_bad_sample=on_bad_sample))
    write_lines(out, (json.dumps(item) for item in apply_rule(rule, items, counts)))
    return dict(counts)


def hold_out_movies(
    movies: Sequence[str], hold_out: str | float, *, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Indices of the items to keep and of those to hold out, no movie on both sides.

    movies: each item's `movie`.
    hold_out: a prefix of movie names (str), or a share of the items in (0, 1) (float): whole movies in the
        order of a hash of (seed, movie) until the share is reached.

    Raises ValueError if either side would be empty.

    >>> hold_out_movies(["lsmdc_1", "movieclips_a", "lsmdc_2"], "movieclips")
    ([0, 2], [1])
    """
    if isinstance(hold_out, str):
        held = {movie for movie in movies if movie.startswith(hold_out)}
    else:
        if not 0 < hold_out < 1:
            raise ValueError(
                f"hold_out is {hold_out}; expected a movie name's prefix or a fraction between 0 and 1"
            )
        held, count, sizes = set(), 0, Counter(movies)
        for movie in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()):
            if count >= hold_out * len(movies):
                break
            held.add(movie)
            count += sizes[movie]
    split = (
        [index for index, movie in enumerate(movies) if movie not in held],
        [index for index, movie in enumerate(movies) if movie in held],
    )
    if not split[0] or not split[1]:
        side = "no item" if not split[1] else "every item"
        raise ValueError(
            f"hold_out={hold_out!r} holds out {side} of {len(movies)} ({len(set(movies))} movies, e.g. "
            f"{sorted(set(movies))[:3]}); name a prefix that some, not all, movies share, or another fraction"
        )
    return split


def _person_tags(tokens: list, objects: list[str]) -> list[int]:
    return sorted(
        {tag for token in tokens if isinstance(token, list) for tag in token if objects[tag] == "person"}
    )


def _only_person_group(tokens: list, objects: list[str]) -> list[int] | None:
    groups = [token for token in tokens if isinstance(token, list)]
    if len(groups) != 1 or len(groups[0]) < 2 or any(objects[tag] != "person" for tag in groups[0]):
        return None
    return sorted(groups[0])


def _pronoun(choice: list, question: list, position: int) -> str:
    lead = _he_lead(choice) or _he_lead(question)
    pronoun = "she" if lead < 0 else "he"
    return pronoun.capitalize() if position == 0 else pronoun


def _he_lead(tokens: list) -> int:
    return sum(_is_word(token, HE_WORDS) - _is_word(token, SHE_WORDS) for token in tokens)


def _is_word(token: str | list, words: set[str]) -> bool:
    return isinstance(token, str) and token in words


def _replace(choice: list, matches: Callable, replacement: Callable) -> list:
    return [replacement(i) if matches(token) else token for i, token in enumerate(choice)]


def _edit_choices(item: dict, edit: Callable[[list, bool], list | None]) -> dict:
    edited = dict(item)
    for kind in ("answer", "rationale"):
        label = item.get(f"{kind}_label")
        if label is None:
            raise ValueError(
                f"item {item.get('annot_id')!r} has no {kind}_label; the shift rules edit right and wrong "
                "choices differently, so give them a labelled file (train.jsonl or val.jsonl)"
            )
        choices = item[f"{kind}_choices"]
        edits = [edit(choice, index == label) for index, choice in enumerate(choices)]
        edited[f"{kind}_choices"] = [
            choice if new is None else new for choice, new in zip(choices, edits, strict=True)
        ]
    return edited


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.vcr.shift", description=__doc__.split("\n")[0])
    parser.add_argument("--rule", required=True, choices=["singular", "plural", "movies"])
    parser.add_argument(
        "--annotations", required=True, type=Path, help="VCR jsonl with labels, e.g. val.jsonl"
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="edited jsonl; for movies a JSON of item indices"
    )
    parser.add_argument("--hold-out", help="for movies: a prefix of movie names, or a fraction of the items")
    parser.add_argument("--seed", type=int, default=0, help="for movies by fraction: which movies come first")
    parser.add_argument("--on-bad-sample", default="raise", choices=["raise", "skip"], help="at a bad line")
    options = parser.parse_args(arguments)
    if (options.hold_out is None) == (options.rule == "movies"):
        parser.error("--hold-out belongs to --rule movies, and is required there")
    if options.rule == "movies":
        if options.on_bad_sample == "skip":
            parser.error(
                "--rule movies writes the numbers of all lines; --on-bad-sample skip is for the edits"
            )
        try:
            hold_out = float(options.hold_out)
        except ValueError:
            hold_out = options.hold_out
        items = iterate_items(options.annotations, classes=None)
        movies = [movie_of(raw, item.where) for raw, item in items]
        kept, held = hold_out_movies(movies, hold_out, seed=options.seed)
        held_movies = sorted({movies[index] for index in held})
        content = {"kept": kept, "held_out": held, "held_out_movies": held_movies}
        write_lines(options.out, [json.dumps(content)])
        print(json.dumps({"items": len(movies), "kept": len(kept), "held_out": len(held)}))
        return
    counts = write_shifted(
        options.rule, options.annotations, options.out, on_bad_sample=options.on_bad_sample
    )
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
