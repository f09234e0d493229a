"""Token lists as texts: names, classes, spacing, aligned words."""

import pytest

from tasks.vcr.items import parse_item
from tasks.vcr.names import PERSON_NAMES, VCR_CLASSES, join, mentioned_objects, person_names, render
from tests.helpers.tiny_vcr import tiny_item

OBJECTS = ["person", "person", "wineglass", "umbrella"]
NAMES = {0: "Casey", 1: "Riley"}


def text(tokens, **options):
    return render(tokens, OBJECTS, NAMES, **options).worded


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        (["Does", [1], "feel", "comfortable", "?"], "Does Riley feel comfortable?"),
        (
            [[0, 1], "hold", [2], ",", "then", "drop", "it", "."],
            "Casey and Riley hold wine glass, then drop it.",
        ),
        ([[0, 1, 3], "meet", "."], "Casey and Riley and umbrella meet."),
        ([[0], "'s", "dog", "does", "n't", "bark", "!"], "Casey's dog doesn't bark!"),
        ([[0], "'", "s", "dog", "can", "'", "t", "bark", "."], "Casey's dog can't bark."),
        (["They", "'re", "in", "a", "t", "-", "shirt", "."], "They're in a t-shirt."),
        ([[0], "says", '"', "hello", '"', "to", [1], "."], 'Casey says "hello" to Riley.'),
        (["It", "(", "the", "cup", ")", "costs", "$", "5", "..."], "It (the cup) costs $5..."),
        (["He", "said", "'", "go", "'", "."], "He said 'go'."),
        (["and", "/", "or", ";", "yes", ":", "50", "%"], "and/or; yes: 50%"),
        (["."], "."),
    ],
)
def test_spacing(tokens, expected):
    assert text(tokens).text == expected


def test_words_stand_where_their_spans_say_and_carry_the_teachers_name():
    worded = text([[0, 2], "'s", "friend", "is", "n't", "well-known", "to", [1], "."])
    assert worded.text == "Casey and wine glass's friend isn't well-known to Riley."
    assert worded.teacher_text == "person and wine glass's friend isn't well-known to person."
    assert worded.words == ("person", "and", "wine glass", "friend", "isn't", "well-known", "to", "person")
    student_words = [worded.text[start:end] for start, end in worded.spans]
    assert student_words == ["Casey", "and", "wine glass", "friend", "isn't", "well-known", "to", "Riley"]
    rendered = render([[0, 2], "'s", "friend"], OBJECTS, NAMES)
    assert rendered.word_objects == (0, -1, 2, -1)


def test_teacher_may_read_names():
    worded = text([[0], "sits", "."], teacher_persons="names")
    assert worded.teacher_text == worded.text == "Casey sits."
    assert worded.words == ("Casey", "sits")


def test_unknown_teacher_persons_is_refused():
    with pytest.raises(ValueError, match="teacher_persons is 'gender'; choose 'class' or 'names'"):
        text([[0]], teacher_persons="gender")


def test_a_joined_text_keeps_its_words():
    one, two = render(["Is", [0], "?"], OBJECTS, NAMES), render([[1], "is", "."], OBJECTS, NAMES)
    joined = join(one, two)
    assert joined.worded.text == "Is Casey? Riley is."
    assert [joined.worded.text[a:b] for a, b in joined.worded.spans] == ["Is", "Casey", "Riley", "is"]
    assert joined.worded.teacher_text == "Is person? person is."
    assert joined.word_objects == (-1, 0, 1, -1)


def test_names_are_one_per_person_within_an_item_and_do_not_depend_on_rationales():
    item = parse_item(tiny_item(objects=["person"] * 3, question=["Is", [1], "here", "?"]), "f:1")
    # question and answers mention 0, 1 and 2
    assert item.names == {0: "Casey", 1: "Riley", 2: "Jessie"}
    later = tiny_item(objects=["person"] * 3, question=["Is", [2], "?"], answer_choices=[["No"]] * 4)
    assert parse_item(later, "f:1").names == {2: "Casey", 0: "Riley", 1: "Jessie"}  # rationales come last


def test_seeded_names_differ_between_items_and_never_repeat_within_one():
    objects, groups = ["person"] * 14, [[[list(range(14))]]]
    drawn = [person_names(objects, groups, annot_id=f"val-{n}", seed=3) for n in range(5)]
    assert all(sorted(names.values()) == sorted(PERSON_NAMES) for names in drawn)
    assert len({tuple(names.values()) for names in drawn}) == 5
    assert drawn[0] == person_names(objects, groups, annot_id="val-0", seed=3)


def test_a_fifteenth_person_takes_the_first_name_again():
    assert person_names(["person"] * 15, [[[list(range(15))]]])[14] == "Casey"


def test_the_80_classes_are_written_without_spaces():
    assert len(VCR_CLASSES) == 80
    assert VCR_CLASSES["diningtable"] == "dining table"
    assert not any(" " in label for label in VCR_CLASSES)
    assert mentioned_objects([[3, 1], "a"], [[1]]) == [1, 3]
