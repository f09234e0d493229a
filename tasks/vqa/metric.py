"""VQA accuracy as the official evaluator computes it, to the digit.

An answer's accuracy is the mean over the ten annotators of min(1, matches among the other nine / 3). All in percent.

    python -m tasks.vqa.metric --results R.json --annotations A.json --questions Q.json
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cliptd.data.files.json_objects import iterate_objects
from tasks.vqa.normalisation import clean, normalise

DIGITS = 2  # of the official numbers


def answer_accuracy(answer: str, annotated: Sequence[str] | Sequence[Mapping[str, Any]]) -> float:
    """Accuracy of an answer, 0 to 1.

    annotated: the annotators' answers, or the official objects with "answer" and "answer_id". Objects that are equal
        in every key count as one annotator, as they do for the official evaluator.

    >>> annotated = ["2"] * 2 + ["two"] + ["3"] * 7
    >>> round(answer_accuracy("two", annotated), 3)  # two annotators see two others who agree, all others three
    0.9
    """
    answer = clean(answer)
    others = [
        {"answer": one, "answer_id": n} if isinstance(one, str) else dict(one)
        for n, one in enumerate(annotated)
    ]
    for one in others:
        one["answer"] = clean(one["answer"])
    if len({one["answer"] for one in others}) > 1:
        answer = normalise(answer)
        for one in others:
            one["answer"] = normalise(one["answer"])
    matching = [one for one in others if one["answer"] == answer]
    scores = [min(1, sum(match != one for match in matching) / 3) for one in others]
    return sum(scores) / len(scores)


def vqa_metrics(
    scored: Iterable[tuple[Any, float, str, str]], *, per_question: bool = False
) -> dict[str, Any]:
    """Official numbers of scored questions.

    scored: (question_id, accuracy 0 to 1, question_type, answer_type).
    Returns overall, per_answer_type and per_question_type in percent, rounded to two digits as the official ones, the
    number of questions, and with `per_question` also {question_id: percent}.
    Raises ValueError if there is no question.
    """
    every: list[float] = []
    by_question_type: dict[str, list[float]] = {}
    by_answer_type: dict[str, list[float]] = {}
    by_question: dict[str, float] = {}
    for question_id, accuracy, question_type, answer_type in scored:
        every.append(accuracy)
        by_question_type.setdefault(question_type, []).append(accuracy)
        by_answer_type.setdefault(answer_type, []).append(accuracy)
        if per_question:
            by_question[str(question_id)] = round(100 * accuracy, DIGITS)
    if not every:
        raise ValueError("there is no question to score")
    return {
        "overall": _percent(every),
        "per_answer_type": {name: _percent(scores) for name, scores in by_answer_type.items()},
        "per_question_type": {name: _percent(scores) for name, scores in by_question_type.items()},
        "questions": len(every),
        **({"per_question": by_question} if per_question else {}),
    }


def score_results(
    results: str | Path,
    annotations: str | Path,
    questions: str | Path | None = None,
    *,
    per_question: bool = False,
) -> dict[str, Any]:
    """Official numbers of a results file against annotations of VQA v2 or VQA-CP v2; see `vqa_metrics`.

    results: JSON, [{"question_id", "answer"}, …], every question once. questions: if given, it must hold the questions
        of the annotations.

    Raises ValueError that lists the question ids which are missing from a file, double in it, or unknown.
    """
    answers: dict[Any, str] = {}
    double = []
    for where, result in iterate_objects(results, "results"):
        _expect(where, result, question_id=(int, str), answer=(str,))
        if result["question_id"] in answers:
            double.append(result["question_id"])
        answers[result["question_id"]] = result["answer"]
    if double:
        raise ValueError(f"{results}: {_listed(double)} more than once; expected every question exactly once")
    if questions is not None:
        asked = [question.get("question_id") for _, question in iterate_objects(questions, "questions")]
    seen: set = set()
    missing: list = []

    def scored() -> Iterable[tuple[Any, float, str, str]]:
        for where, annotation in iterate_objects(annotations, "annotations"):
            _expect(
                where,
                annotation,
                question_id=(int, str),
                answers=(list,),
                question_type=(str,),
                answer_type=(str,),
            )
            question_id = annotation["question_id"]
            if question_id in seen:
                raise ValueError(f"{where}: question_id {question_id} more than once in this file")
            seen.add(question_id)
            if question_id not in answers:
                missing.append(question_id)
                continue
            accuracy = answer_accuracy(answers[question_id], annotation["answers"])
            yield question_id, accuracy, annotation["question_type"], annotation["answer_type"]

    rows = list(scored())
    unknown = [question_id for question_id in answers if question_id not in seen]
    if missing or unknown:
        parts = [f"without {_listed(missing)} of {annotations}"] * bool(missing)
        parts += [f"with {_listed(unknown)} that {annotations} does not have"] * bool(unknown)
        raise ValueError(f"{results}: {' and '.join(parts)}; expected exactly one answer a question")
    if questions is not None and set(asked) != seen:
        raise ValueError(
            f"{questions} and {annotations} are not of the same split: {_listed(sorted(set(asked) ^ seen, key=str))} "
            "in one of them only"
        )
    return vqa_metrics(rows, per_question=per_question)


def _expect(where: str, found: Mapping[str, Any], **types: tuple[type, ...]) -> None:
    for key, allowed in types.items():
        if not isinstance(found.get(key), allowed) or isinstance(found.get(key), bool):
            names = " or ".join(kind.__name__ for kind in allowed)
            raise ValueError(f"{where}: {key} is {found.get(key)!r}, expected {names}")


def _percent(scores: Sequence[float]) -> float:
    return round(100 * sum(scores) / len(scores), DIGITS)


def _listed(ids: Sequence[Any]) -> str:
    shown = ", ".join(map(str, ids[:5])) + (" …" if len(ids) > 5 else "")
    return f"{len(ids)} question_id{'s' * (len(ids) > 1)} ({shown})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.vqa.metric", description=__doc__.split("\n")[0])
    parser.add_argument("--results", required=True, help='JSON: [{"question_id", "answer"}, …]')
    parser.add_argument("--annotations", required=True, help="official annotations of the same split")
    parser.add_argument("--questions", help="official questions of the same split; checked if given")
    parser.add_argument("--per-question", action="store_true", help="also the accuracy of every question")
    options = parser.parse_args(arguments)
    scores = score_results(
        options.results, options.annotations, options.questions, per_question=options.per_question
    )
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
