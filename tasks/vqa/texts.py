"""What the student and the teacher read of a VQA question, and the wrong answers that the teacher chooses among."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from tasks.batches.texts import SingleTexts
from tasks.vqa.data import VqaExample
from tasks.vqa.vocabulary import FrequentAnswers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TeacherText = Literal["question_and_answer", "answer", "question"]


def question_texts(
    tokenizer: "PreTrainedTokenizerBase",
    frequent: FrequentAnswers | None = None,
    *,
    teacher_text: TeacherText = "question_and_answer",
    rival_answers: int = 8,
    **options: Any,
) -> SingleTexts:
    """The student reads the question; the teacher the question and the most frequent answer, or one of the two.

    frequent: whence the rivals come; None: there are none. rival_answers: how many; 0, or a teacher text without
    answer: none. options: as for `ExampleTexts`.
    """
    sentence = _sentence(teacher_text)
    rivals = None
    if frequent is not None and rival_answers and teacher_text != "question":

        def rivals(example: VqaExample) -> list[str]:
            if example.answers is None:
                return []
            wrong = frequent.wrong(example.question_type, example.answers, rival_answers)
            return [sentence(example.question, answer) for answer in wrong]

    return SingleTexts(
        tokenizer,
        lambda example: example.question,
        lambda example: sentence(example.question, example.answer or ""),
        rivals,
        **options,
    )


def _sentence(teacher_text: TeacherText) -> Callable[[str, str], str]:
    return {
        "question_and_answer": lambda question, answer: f"{question} {answer}".strip(),
        "answer": lambda question, answer: answer or question,
        "question": lambda question, answer: question,
    }[teacher_text]
