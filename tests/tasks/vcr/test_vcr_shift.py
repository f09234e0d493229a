"""Rule-Singular, Rule-Plural and held-out movies, clause by clause on items made by hand."""

import copy
import json

import pytest

from tasks.vcr.shift import apply_rule, hold_out_movies, main, rule_plural, rule_singular
from tasks.vcr.split import VcrSplit
from tests.helpers.tiny_vcr import tiny_item, tiny_vcr, write_items

OBJECTS = ["person", "person", "person", "car"]
FILLER = ["It", "rains", "."]


def item(question, right, wrong, **changes):
    """An item whose choice 1 is right, choice 0 is wrong; answers and rationales alike."""
    choices = [wrong, right, FILLER, FILLER]
    keys = {"objects": OBJECTS, "question": question, "answer_label": 1, "rationale_label": 1}
    return tiny_item(**keys, answer_choices=choices, rationale_choices=copy.deepcopy(choices), **changes)


def edited(rule, question, right=FILLER, wrong=FILLER):
    """(right, wrong) choice after the rule; checks that answers and rationales are edited alike."""
    before = item(question, right, wrong)
    untouched = copy.deepcopy(before)
    after = rule(before)
    assert before == untouched  # a pure function
    assert after["answer_choices"] == after["rationale_choices"]
    assert after["answer_choices"][2:] == [FILLER, FILLER]
    changed = {"answer_choices", "rationale_choices"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    return after["answer_choices"][1], after["answer_choices"][0]


WHY_0 = ["Why", "is", [0], "here", "?"]


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        (WHY_0, True),
        (["Is", [0], "near", [0], "?"], True),  # one distinct tag, twice
        (["Is", [0, 3], "here", "?"], True),  # a car is no person
        (["Is", [0, 1], "here", "?"], False),
        (["Is", [0], "near", [1], "?"], False),
        (["Is", [3], "red", "?"], False),
        (["Is", "he", "here", "?"], False),  # a pronoun is no tag
    ],
)
def test_singular_keeps_questions_with_one_distinct_person(question, kept):
    assert (rule_singular(item(question, FILLER, FILLER)) is not None) == kept


@pytest.mark.parametrize(
    ("question", "choice", "expected"),
    [
        # every token equal to the group becomes the pronoun; capitalised only in front; a tie gives "he"
        (WHY_0, [[0], "likes", [0], "."], ["He", "likes", "he", "."]),
        (WHY_0, ["Now", [0], "sits", "."], ["Now", "he", "sits", "."]),
        # another person than the question's is edited too
        (WHY_0, [[2], "sits", "."], ["He", "sits", "."]),
        # majority of he-words (he his him) against she-words (she her hers), lower-case or capitalised
        (WHY_0, [[0], "took", "her", "bag", "."], ["She", "took", "her", "bag", "."]),
        (WHY_0, ["Hers", "is", [0], "'s", "."], ["Hers", "is", "she", "'s", "."]),
        (WHY_0, [[0], "gave", "him", "her", "Her", "bag"], ["She", "gave", "him", "her", "Her", "bag"]),
        (
            WHY_0,
            [[0], "took", "HER", "bag"],
            ["He", "took", "HER", "bag"],
        ),  # neither lower-case nor capitalised
        (
            WHY_0,
            [[0], "hides", "himself", "herself", "herself"],
            ["He", "hides", "himself", "herself", "herself"],
        ),
        # a tie in the choice counts the question too
        (["Why", "is", [0], "with", "her", "?"], [[0], "waits", "."], ["She", "waits", "."]),
        (["Why", "is", [0], "with", "her", "?"], [[0], "his", "her"], ["She", "his", "her"]),
        (["Why", "is", [0], "with", "her", "her", "?"], [[0], "met", "him"], ["He", "met", "him"]),  # no tie
        (["Why", "is", [0], "his", "her", "?"], [[0], "waits", "."], ["He", "waits", "."]),  # tie again
        # distinct persons + distinct he/she must be one
        (WHY_0, [[0], "met", [1], "."], [[0], "met", [1], "."]),
        (WHY_0, [[0], "says", "he", "left", "."], [[0], "says", "he", "left", "."]),
        (WHY_0, [[0], "says", "SHE", "left", "."], [[0], "says", "SHE", "left", "."]),  # any case counts
        (WHY_0, ["He", "and", "she", "left", "."], ["He", "and", "she", "left", "."]),
        # pronouns of the right choice stay
        (WHY_0, ["He", "thinks", "he", "left", "."], ["He", "thinks", "he", "left", "."]),
        # only the one-tag group itself is replaced
        (WHY_0, [[0, 3], "crash", [0], "."], [[0, 3], "crash", "he", "."]),
        (WHY_0, [[0, 3], "crash", "."], [[0, 3], "crash", "."]),
        (WHY_0, [[3], "is", "red", "."], [[3], "is", "red", "."]),
    ],
)
def test_singular_right_choice(question, choice, expected):
    assert edited(rule_singular, question, right=choice)[0] == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ([[1], "sits", "on", [1], "."], [[0], "sits", "on", [0], "."]),
        ([[0], "sits", "."], [[0], "sits", "."]),
        (["He", "says", "he", "sits", "."], [[0], "says", [0], "sits", "."]),
        (
            ["She", "sits", "with", "her", "dog", "."],
            [[0], "sits", "with", "her", "dog", "."],
        ),  # "her" is no he/she
        (["HE", "sits", "."], ["HE", "sits", "."]),  # counted in any case, replaced as he/she/He/She only
        (["he", "and", "she", "sit", "."], ["he", "and", "she", "sit", "."]),
        ([[1], "and", [2], "sit", "."], [[1], "and", [2], "sit", "."]),
        ([[1, 2], "sit", "."], [[1, 2], "sit", "."]),
        ([[1, 3], "sit", "by", [1], "."], [[1, 3], "sit", "by", [0], "."]),
        ([[3], "is", "red", "."], [[3], "is", "red", "."]),
    ],
)
def test_singular_wrong_choice(choice, expected):
    assert edited(rule_singular, WHY_0, wrong=choice)[1] == expected


WHY_01 = ["Why", "are", [0, 1], "here", "?"]


@pytest.mark.parametrize(
    ("question", "kept"),
    [
        (WHY_01, True),
        (["Are", [1, 0], "here", "?"], True),
        (["Are", [0, 1, 2], "here", "?"], True),
        (["Is", [0], "here", "?"], False),
        (["Are", [0, 3], "here", "?"], False),  # not all persons
        (["Are", [0, 1], "near", [3], "?"], False),  # two groups
        (["Are", [0, 1], "or", [0, 1], "here", "?"], False),  # two groups, though equal
        (["Are", "they", "here", "?"], False),
    ],
)
def test_plural_keeps_questions_with_one_group_of_persons(question, kept):
    assert (rule_plural(item(question, FILLER, FILLER)) is not None) == kept


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ([[0, 1], "sit", "."], ["They", "sit", "."]),
        (["Now", [1, 2], "sit", "."], ["Now", "they", "sit", "."]),  # another group too
        (["Now", [1, 0], "sit", "."], ["Now", "they", "sit", "."]),  # in any order
        (["They", "sit", "as", "they", "like", "."], ["They", "sit", "as", "they", "like", "."]),
        ([[0, 1], "say", "they", "sit", "."], ["They", "say", "they", "sit", "."]),
        ([[0, 1], "sit", "by", [2], "."], [[0, 1], "sit", "by", [2], "."]),  # two groups, no they
        ([[0, 1], "think", "they", "saw", [2]], [[0, 1], "think", "they", "saw", [2]]),
        ([[0, 3], "sit", "."], [[0, 3], "sit", "."]),
        ([[0], "sits", "."], [[0], "sits", "."]),
    ],
)
def test_plural_right_choice(choice, expected):
    assert edited(rule_plural, WHY_01, right=choice)[0] == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ([[1, 2], "sit", "."], [[0, 1], "sit", "."]),
        ([[2, 1], "sit", "."], [[0, 1], "sit", "."]),
        (["They", "say", "they", "sit", "."], [[0, 1], "say", [0, 1], "sit", "."]),
        ([[1, 2], "say", "they", "sit", "."], [[0, 1], "say", [0, 1], "sit", "."]),
        ([[2], "says", "they", "sit", "."], [[2], "says", [0, 1], "sit", "."]),
        (["THEY", "sit", "."], ["THEY", "sit", "."]),
        (["Them", "."], ["Them", "."]),
        ([[2], "sits", "."], [[2], "sits", "."]),
    ],
)
def test_plural_wrong_choice(choice, expected):
    assert edited(rule_plural, WHY_01, wrong=choice)[1] == expected


def test_plural_writes_the_question_group_in_sorted_order():
    assert edited(rule_plural, ["Are", [2, 0], "here", "?"], wrong=["They", "sit"])[1] == [[0, 2], "sit"]


def test_plural_verbatim_groups_leaves_unsorted_groups_as_the_published_scripts_do():
    before = item(WHY_01, [[1, 0], "sit"], [[2, 1], "see", "them"])
    after = rule_plural(before, verbatim_groups=True)
    assert after["answer_choices"][1] == [[1, 0], "sit"]
    assert after["answer_choices"][0] == [[2, 1], "see", "them"]


def test_rules_need_labels():
    with pytest.raises(ValueError, match=r"val-0.*no answer_label.*train.jsonl or val.jsonl"):
        rule_singular(tiny_item(answer_label=None))


def test_apply_rule_streams_and_counts():
    from collections import Counter

    counts = Counter()
    items = [item(WHY_0, [[0], "sits"], [[1], "sits"]), item(WHY_01, FILLER, FILLER)]
    stream = apply_rule("singular", iter(items), counts)
    assert counts["items"] == 0
    assert len(list(stream)) == 1
    assert counts == {"items": 2, "kept": 1, "answer_choices": 2, "rationale_choices": 2}


def test_movies_by_prefix_and_by_fraction():
    movies = ["lsmdc_a", "clip_b", "lsmdc_a", "clip_c", "lsmdc_d", "clip_c"]
    assert hold_out_movies(movies, "clip_") == ([0, 2, 4], [1, 3, 5])
    kept, held = hold_out_movies(movies, 0.4, seed=1)
    assert sorted(kept + held) == list(range(6))
    assert not {movies[i] for i in kept} & {movies[i] for i in held}
    assert len(held) >= 0.4 * 6
    assert hold_out_movies(movies, 0.4, seed=1) == (kept, held)
    assert len({tuple(hold_out_movies(movies, 0.4, seed=seed)[1]) for seed in range(9)}) > 1


@pytest.mark.parametrize(
    ("hold_out", "message"),
    [
        ("nope", "holds out no item"),
        ("m", "holds out every item"),
        (1.5, "between 0 and 1"),
        (0.9, "every item"),
    ],
)
def test_movies_refuses_an_empty_side(hold_out, message):
    with pytest.raises(ValueError, match=message):
        hold_out_movies(["m1", "m1"], hold_out)


def test_command_singular(tmp_path, capsys):
    annotations = write_items(tmp_path / "val.jsonl", [tiny_item(0), tiny_item(1, question=["Why", "?"])])
    main(["--rule", "singular", "--annotations", str(annotations), "--out", str(tmp_path / "out.jsonl")])
    counts = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [rule_singular(tiny_item(0))]
    assert lines[0]["answer_choices"] == [
        ["He", "is", "holding", [2], "."],
        [[0, 1], "are", "dancing", "."],
        [[0], "is", "n't", "here", "."],
        [[0], "holds", "a", "knife", "."],
    ]
    assert counts == {"items": 2, "kept": 1, "answer_choices": 3, "rationale_choices": 2}


def test_command_movies(tmp_path, capsys):
    items = [tiny_item(n, movie=movie) for n, movie in enumerate(["a_1", "b_1", "a_2"])]
    annotations = write_items(tmp_path / "train.jsonl", items)
    out = tmp_path / "split.json"
    main(["--rule", "movies", "--hold-out", "b_", "--annotations", str(annotations), "--out", str(out)])
    assert json.loads(out.read_text()) == {"kept": [0, 2], "held_out": [1], "held_out_movies": ["b_1"]}
    assert json.loads(capsys.readouterr().out) == {"items": 3, "kept": 2, "held_out": 1}


def test_a_line_without_movie_is_named_where_movies_are_held_out(tmp_path):
    root = tiny_vcr(tmp_path, items=4, split="train")
    path = write_items(root / "train.jsonl", [tiny_item(n, movie="a" if n < 3 else None) for n in range(4)])
    asked = VcrSplit(data_root=root, hold_out_movies="a")
    for read in (asked.training_items, asked.held_out_items):
        with pytest.raises(ValueError, match=r"train\.jsonl:4: movie is None, expected the movie's name"):
            read()
    arguments = ["--rule", "movies", "--annotations", str(path), "--out", str(tmp_path / "out.json")]
    with pytest.raises(ValueError, match=r"train\.jsonl:4, annot_id 'val-3': movie is None"):
        main([*arguments, "--hold-out", "a"])
    assert VcrSplit(data_root=root).training_items().num_items == 4  # otherwise no movie is needed


def test_command_names_the_bad_line_and_leaves_no_file(tmp_path):
    annotations = write_items(tmp_path / "val.jsonl", [tiny_item(0), tiny_item(1, question=["Is", [9], "?"])])
    with pytest.raises(ValueError, match=r"val\.jsonl:2, annot_id 'val-1': question mentions object 9"):
        main(["--rule", "singular", "--annotations", str(annotations), "--out", str(tmp_path / "out.jsonl")])
    assert list(tmp_path.iterdir()) == [annotations]


def test_command_leaves_bad_lines_out_if_asked(tmp_path, capsys):
    annotations = write_items(tmp_path / "val.jsonl", [tiny_item(0), tiny_item(1, question=["Is", [9], "?"])])
    out = tmp_path / "out.jsonl"
    arguments = ["--rule", "singular", "--annotations", str(annotations), "--out", str(out)]
    with pytest.warns(UserWarning, match="1 lines skipped; the first: .*question mentions object 9"):
        main([*arguments, "--on-bad-sample", "skip"])
    assert json.loads(capsys.readouterr().out)["items"] == 1
    assert json.loads(out.read_text()) == rule_singular(tiny_item(0))


def test_command_wants_hold_out_with_movies_only(tmp_path, capsys):
    for rule, extra in (("movies", []), ("plural", ["--hold-out", "x"])):
        with pytest.raises(SystemExit):
            main(["--rule", rule, "--annotations", "a", "--out", "b", *extra])
        assert "--hold-out belongs to --rule movies" in capsys.readouterr().err
    skipping = ["--hold-out", "x", "--on-bad-sample", "skip"]
    with pytest.raises(SystemExit):
        main(["--rule", "movies", "--annotations", "a", "--out", "b", *skipping])
    assert "--on-bad-sample skip is for the edits" in capsys.readouterr().err
