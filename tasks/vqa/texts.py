"""What the student and the teacher read of a VQA question, and the wrong answers that the teacher chooses among."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from tasks.texts import SingleTexts
from tasks.vqa.data import VqaDataset, VqaExample
from tasks.vqa.metric import answer_accuracy
from tasks.vqa.normalisation import clean, normalise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TeacherText = Literal["question_and_answer", "answer", "question"]


class FrequentAnswers:
    """The most frequent normalised answers of each question type.

    questions: (question type, most frequent answer) of the labelled training questions.
    """

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question_type, answer in questions:
            counts[question_type][normalise(clean(answer))] += 1
        self.of_type = {
            kind: sorted(answers, key=lambda answer: (-answers[answer], answer))
            for kind, answers in counts.items()
        }

    def wrong(self, example: VqaExample, count: int) -> list[str]:
        """The first `count` that no annotator gave; fewer where the type has fewer.

        >>> answers = FrequentAnswers([("is it", "yes"), ("is it", "no"), ("is it", "yes")])
        >>> answers.of_type
        {'is it': ['yes', 'no']}
        """
        found: list[str] = []
        for answer in self.of_type.get(example.question_type, ()):
            if len(found) == count:
                break
            if answer and answer_accuracy(answer, example.answers) == 0:
                found.append(answer)
        return found


def question_texts(
    tokenizer: "PreTrainedTokenizerBase",
    labelled: VqaDataset,
    *,
    teacher_text: TeacherText = "question_and_answer",
    rival_answers: int = 8,
    **options: Any,
) -> SingleTexts:
    """The student reads the question; the teacher the question and the most frequent answer, or one of the two.

    labelled: the training set, whose answers are the rivals. rival_answers: how many; 0, or a teacher text without
    answer: none. options: as for `ExampleTexts`.
    """
    sentence = _sentence(teacher_text)
    rivals = None
    if rival_answers and teacher_text != "question":
        kinds, answers = labelled.column("question_type"), labelled.column("answer")
        frequent = FrequentAnswers(zip(kinds, answers, strict=True))

        def rivals(example: VqaExample) -> list[str]:
            if example.answers is None:
                return []
            return [sentence(example.question, answer) for answer in frequent.wrong(example, rival_answers)]

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
