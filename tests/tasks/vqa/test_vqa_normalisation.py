"""What the official evaluator (GT-Vision-Lab/VQA) makes of messy answers: its own output, noted down."""

import pytest

from tasks.vqa.normalisation import CONTRACTIONS, clean, normalise

CASES = [
    ("Yes", "yes"),
    ("yes.", "yes"),
    ("The Dog", "dog"),
    ("A", ""),
    ("an apple a day", "apple day"),
    ("two", "2"),
    ("Ten", "10"),
    ("none", "0"),
    ("zero", "0"),
    ("1,000", "1000"),
    ("1,000 - 2,000", "1000 2000"),
    ("3.5", "3.5"),
    ("3.5.", "3.5"),
    ("1.a", "1a"),
    ("U.S.A.", "usa"),
    ("e.g. this", "eg this"),
    ("red-white", "red white"),
    ("red - white", "red white"),
    ("red/white", "red white"),
    ("red, white", "red white"),
    ("red,white", "red white"),
    ("what?", "what"),
    ("what ?", "what"),
    ("(left)", "left"),
    ("( left )", "left"),
    ("don't", "don't"),
    ("dont", "don't"),
    ("Dont know", "don't know"),
    ("couldntve", "couldntve"),
    ("couldn'tve", "couldn't've"),
    ("he'd've", "he'd've"),
    ("hed've", "he'd've"),
    ("somebody'd", "somebodyd"),
    ("somebodyd've", "somebody'd've"),
    ("ow's'at", "'ow's'at"),
    ("Im", "im"),
    ("Ive been", "ive been"),
    ("yall'd've", "y'all'd've"),
    ("o'clock", "o'clock"),
    ("10 oclock", "10 o'clock"),
    ("it's", "it's"),
    ("5 o'clock.", "5 o'clock"),
    ('"quoted"', "quoted"),
    ("a-b c", "b c"),
    ("a -b c", "b c"),
    ("back\\slash", "back slash"),
    ("under_score", "under score"),
    ("x>y<z", "x y z"),
    ("me@home", "me home"),
    ("tick`s", "tick s"),
    ("one, two", "1 2"),
    ("one,two", "1 2"),
    ("$5", "$5"),
    ("50%", "50%"),
    ("", ""),
    ("the", ""),
    ("...", ""),
    ("aaa" + 40 * ".", "aaa........"),
    ("Twas", "'twas"),
    ("ma'am", "ma'am"),
    ("maam's", "maam's"),
    (34 * "a. " + "b.", "a. a. b."),
]


@pytest.mark.parametrize(("answer", "official"), CASES)
def test_answers_become_what_the_official_evaluator_makes_of_them(answer, official):
    assert normalise(answer) == official


def test_only_ascii_digits_count_as_in_the_official_python_2():
    assert normalise("١,٢") == "١ ٢"  # a comma between digits would be deleted


def test_cleaning_keeps_inner_spaces():
    assert clean("\ta  b\nc ") == "a  b c"


def test_every_contraction_differs_from_what_it_becomes_and_can_be_met():
    assert len(CONTRACTIONS) == 114
    for spelling, form in CONTRACTIONS.items():
        assert spelling != form
        assert normalise(spelling.upper()) == form
