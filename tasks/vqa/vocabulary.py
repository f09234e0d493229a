"""Which answers a VQA model chooses from, how right each of them is, and which are likely to a kind of question."""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.vqa.metric import answer_accuracy
from tasks.vqa.normalisation import clean, normalise

if TYPE_CHECKING:
    from torch import Tensor

MIN_OCCURRENCES = 9  # of VQA v2's usual vocabulary of 3,129 answers, counted over train and val


class AnswerVocabulary:
    """Answers by number.

    Raises ValueError for no answer or a double one.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.index = {answer: number for number, answer in enumerate(self.answers)}
        if not self.answers or len(self.index) != len(self.answers):
            double = [answer for answer, times in Counter(self.answers).items() if times > 1]
            raise ValueError(f"a vocabulary of {len(self.answers)} answers, {double[:5]} more than once")
        self._spelled: dict[str, list[int]] = {}  # what becomes the same when the evaluator normalises
        for number, answer in enumerate(self.answers):
            self._spelled.setdefault(normalise(clean(answer)), []).append(number)

    @classmethod
    def build(
        cls, most_frequent: Iterable[str], *, min_occurrences: int = MIN_OCCURRENCES
    ) -> "AnswerVocabulary":
        """The normalised answers that occur often enough, most frequent first, equals in alphabetical order.

        most_frequent: "multiple_choice_answer" of every question.
        Raises ValueError if none does.
        """
        counts = Counter(normalise(clean(answer)) for answer in most_frequent)
        kept = [answer for answer, times in counts.items() if times >= min_occurrences and answer]
        if not kept:
            raise ValueError(
                f"none of {len(counts)} answers occurs {min_occurrences} times; lower min_occurrences"
            )
        return cls(sorted(kept, key=lambda answer: (-counts[answer], answer)))

    @classmethod
    def load(cls, path: str | Path) -> "AnswerVocabulary":
        """From the JSON list that `save` writes."""
        answers = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise ValueError(f"{path}: expected a JSON list of answers")
        return cls(answers)

    def save(self, path: str | Path) -> None:
        """As a JSON list."""
        Path(path).write_text(json.dumps(self.answers, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self.answers)

    def soft_targets(self, annotated: Sequence[str]) -> dict[int, float]:
        """Number → official accuracy of every answer of the vocabulary that scores at all.

        annotated: the annotators' answers, as written.
        """
        normalised = dict.fromkeys(normalise(clean(answer)) for answer in annotated)
        numbers = [number for form in normalised for number in self._spelled.get(form, ())]
        scores = {number: answer_accuracy(self.answers[number], annotated) for number in numbers}
        return {number: score for number, score in scores.items() if score > 0}

    def target_matrix(self, annotated: Sequence[Sequence[str]]) -> "Tensor":
        """(batch, answers) float32 soft targets."""
        import torch  # here, as settings import this file and command lines are parsed without torch

        targets = torch.zeros(len(annotated), len(self))
        for row, answers in enumerate(annotated):
            for number, score in self.soft_targets(answers).items():
                targets[row, number] = score
        return targets

    def coverage(self, annotated: Iterable[Sequence[str]]) -> float:
        """Best accuracy that choosing from this vocabulary allows, in percent.

        Raises ValueError for no question.
        """
        best = [max(self.soft_targets(answers).values(), default=0.0) for answers in annotated]
        if not best:
            raise ValueError("there is no question to cover")
        return 100 * sum(best) / len(best)


class FrequentAnswers:
    """The normalised answers of each question type, most frequent first, equals in alphabetical order.

    questions: (question type, most frequent answer) of the questions of a file.
    """

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for question_type, answer in questions:
            counts[question_type][normalise(clean(answer))] += 1
        self.of_type = {
            kind: sorted(answers, key=lambda answer: (-answers[answer], answer))
            for kind, answers in counts.items()
        }

    def wrong(self, question_type: str | None, annotated: Sequence[str], count: int) -> list[str]:
        """The first `count` answers of the type that no annotator gave; fewer where it has fewer.

        >>> answers = FrequentAnswers([("what", "red"), ("what", "blue"), ("what", "red"), ("what", "Red and blue")])
        >>> answers.wrong("what", ["blue", "Blue.", "navy"], 2)
        ['red', 'red and blue']
        """
        given = {normalise(clean(answer)) for answer in annotated}
        others = (answer for answer in self.of_type.get(question_type, ()) if answer and answer not in given)
        return list(itertools.islice(others, count))
