"""The page of right and wrong examples."""

import re

from PIL import Image

from tasks.batches.answered import Answered, evenly_spaced
from tasks.finetuning.examples_page import SHOWN, examples_page


def answers(right: list[bool], method: str) -> list[Answered]:
    def image() -> Image.Image:
        return Image.new("RGB", (400, 300))

    return [
        Answered(image, f"Who is <{k}>?", f"right {k}", f"{method} {k}", is_right)
        for k, is_right in enumerate(right)
    ]


def test_examples_are_grouped_by_who_is_right_with_differences_first():
    none = answers([False, True, True, False], "none")
    targeted = answers([True, False, True, False], "targeted")
    page = examples_page("VCR: answers on val", {"none": none, "targeted": targeted})
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "right with targeted, wrong with none: 1 of 4",
        "right with none, wrong with targeted: 1 of 4",
        "wrong with none and targeted: 1 of 4",
        "right with none and targeted: 1 of 4",
    ]
    assert page.count("data:image/png;base64,") == 4
    assert page.index("✗ none: none 0") < page.index("✓ targeted: targeted 0") < page.index("✓ none: none 1")
    assert "Who is &lt;0&gt;?" in page
    assert "Right answer: right 3" in page


def test_a_page_of_one_method_shows_a_few_of_many():
    page = examples_page("title", {"none": answers([True] * 40 + [False] * 3, "none")})
    assert "wrong with none: 3 of 43" in page
    assert page.count("✓") == SHOWN
    assert page.count("✗") == 3


def test_examples_are_evenly_spaced():
    assert list(evenly_spaced(0, 6)) == []
    assert list(evenly_spaced(7, 7)) == list(range(7))
    assert list(evenly_spaced(100, 4)) == [0, 25, 50, 75]
