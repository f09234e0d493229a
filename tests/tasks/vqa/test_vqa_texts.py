"""What student and teacher read of a question, and the wrong answers that compete."""

import pytest

from tasks.vqa.data import VqaDataset
from tasks.vqa.texts import question_texts
from tasks.vqa.vocabulary import FrequentAnswers
from tests.helpers.tiny_vcr import pair_tokenizer
from tests.helpers.tiny_vqa import annotation, question, write_v2

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def dataset(tmp_path):
    count = 9
    root = write_v2(
        tmp_path / "vqa", [question(n) for n in range(count)], [annotation(n) for n in range(count)]
    )
    return VqaDataset.from_root(root, "val")


def test_rivals_are_the_types_most_frequent_answers_that_nobody_gave():
    kind, two = "how many", ["2", "two", "3"]
    frequent = FrequentAnswers(
        [(kind, "2"), (kind, "seven"), (kind, "Seven."), (kind, "4"), (kind, "5"), ("x", "red")]
    )
    assert frequent.of_type[kind] == ["7", "2", "4", "5"]
    assert frequent.wrong(kind, two, 2) == ["7", "4"]  # 2 is right
    assert frequent.wrong(kind, two, 9) == ["7", "4", "5"]
    assert FrequentAnswers([("x", "red")]).wrong(kind, two, 3) == []


@pytest.mark.parametrize(
    ("teacher_text", "expected"),
    [("question_and_answer", "What is number 1? 2"), ("answer", "2"), ("question", "What is number 1?")],
)
def test_the_teacher_reads_the_question_the_answer_or_both(dataset, teacher_text, expected):
    frequent = FrequentAnswers([("how many", "2"), ("how many", "7"), ("how many", "0")])
    texts = question_texts(pair_tokenizer(), frequent, teacher_text=teacher_text, rival_answers=3)
    encoded = texts([dataset[1]])[0]
    assert encoded.teacher_texts == [expected]
    assert encoded.words == [["What", "is", "number", "1"]]
    assert encoded.columns["input_ids"].shape == encoded.word_ids.shape
    assert encoded.columns["input_ids"].shape[0] == 1
    if teacher_text == "question":
        assert encoded.rival_texts is None  # every answer would make the same sentence
    else:
        assert encoded.rival_texts == [expected[:-1] + rival for rival in ("0", "7")]
    assert question_texts(pair_tokenizer(), frequent, rival_answers=0)([dataset[1]])[0].rival_texts is None
