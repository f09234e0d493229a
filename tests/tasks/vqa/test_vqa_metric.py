"""VQA accuracy against numbers worked out by hand and against a literal reading of the published rule."""

import json
import random
import subprocess
import sys
from fractions import Fraction

import pytest

from tasks.vqa.metric import answer_accuracy, main, score_results, vqa_metrics
from tasks.vqa.normalisation import clean, normalise
from tests.helpers.commands import REPOSITORY
from tests.helpers.tiny_vqa import annotation, question, write_v2


@pytest.mark.parametrize(
    ("answer", "annotated", "percent"),
    [
        ("yes", ["yes"] * 10, 100),
        ("Yes", ["yes"] * 10, 0),  # all ten agree, so nothing is normalised
        (" yes\n", ["yes"] * 10, 100),  # but spaces around it always go
        ("Yes.", ["yes"] * 9 + ["no"], 100),
        ("no", ["yes"] * 9 + ["no"], 30),  # nine see one match, its author none
        ("no", ["yes"] * 8 + ["no"] * 2, 60),
        ("no", ["yes"] * 7 + ["no"] * 3, 90),
        ("no", ["yes"] * 6 + ["no"] * 4, 100),
        ("two", ["2"] * 2 + ["Two"] * 2 + ["3"] * 6, 100),
        ("a dog", ["the dog"] * 3 + ["cat"] * 7, 90),
        ("red white", ["red-white"] * 2 + ["red - white"] + ["red"] * 7, 90),
        ("1000", ["1,000"] * 1 + ["2"] * 9, 30),
        ("", ["a"] * 1 + ["b"] * 9, 30),  # an article alone is nothing, and nothing matches it
        ("yes", ["yes", "yes", "no"], Fraction(100 * (Fraction(1, 3) * 2 + Fraction(2, 3)), 3)),
    ],
)
def test_accuracy_by_hand(answer, annotated, percent):
    assert answer_accuracy(answer, annotated) == pytest.approx(float(percent) / 100, abs=1e-12)


def test_accuracy_is_the_published_rule():
    rng = random.Random(0)
    pool = ["yes", "Yes.", "the yes", "no", "2", "two", "two, or 3", "dont", "don't"]
    for _ in range(500):
        annotated = [rng.choice(pool) for _ in range(10)]
        answer = rng.choice(pool)
        told, given = annotated, answer
        if len({clean(one) for one in annotated}) > 1:
            told, given = [normalise(clean(one)) for one in annotated], normalise(clean(answer))
        matches = told.count(given)
        assert answer_accuracy(answer, annotated) == pytest.approx(min(1, 0.3 * matches))


def test_annotators_equal_in_every_key_are_one_for_the_official_evaluator():
    same = [{"answer": "yes", "answer_id": 1}] * 10
    assert answer_accuracy("yes", same) == 0.0


def test_numbers_are_rounded_as_the_official_ones():
    scored = [(1, 1.0, "is", "yes/no"), (2, 0.0, "is", "yes/no"), (3, 1.0, "how many", "number")]
    assert vqa_metrics(scored, per_question=True) == {
        "overall": 66.67,
        "per_answer_type": {"yes/no": 50.0, "number": 100.0},
        "per_question_type": {"is": 50.0, "how many": 100.0},
        "questions": 3,
        "per_question": {"1": 100.0, "2": 0.0, "3": 100.0},
    }
    with pytest.raises(ValueError, match="no question to score"):
        vqa_metrics([])


@pytest.fixture
def files(tmp_path):
    """Three questions; given: right, 2 (with the twos 7 of 10), an answer of 4 annotators that 6 others match, too."""
    root = write_v2(tmp_path / "vqa", [question(n) for n in range(3)], [annotation(n) for n in range(3)])
    results = tmp_path / "R.json"
    results.write_text(
        json.dumps(
            [
                {"question_id": 1002, "answer": "red, white"},
                {"question_id": 1000, "answer": "no"},
                {"question_id": 1001, "answer": "Two."},
            ]
        )
    )
    return (
        results,
        root / "v2_mscoco_val2014_annotations.json",
        root / "v2_OpenEnded_mscoco_val2014_questions.json",
    )


def test_a_results_file_is_scored(files, capsys):
    results, annotations, questions = files
    names = ["--results", results, "--annotations", annotations, "--questions", questions, "--per-question"]
    main(list(map(str, names)))
    assert json.loads(capsys.readouterr().out) == {
        "overall": 66.67,
        "per_answer_type": {"yes/no": 0.0, "number": 100.0, "other": 100.0},
        "per_question_type": {"is this": 0.0, "how many": 100.0, "what color is the": 100.0},
        "questions": 3,
        "per_question": {"1000": 0.0, "1001": 100.0, "1002": 100.0},
    }


def test_the_layout_of_vqa_cp_is_scored_alike(files, tmp_path):
    results, annotations, questions = files
    bare = tmp_path / "vqacp_v2_test_annotations.json"
    bare.write_text(json.dumps(json.loads(annotations.read_text())["annotations"]))
    asked = tmp_path / "vqacp_v2_test_questions.json"
    asked.write_text(json.dumps(json.loads(questions.read_text())["questions"]))
    assert score_results(results, bare, asked) == score_results(results, annotations, questions)


def test_the_command_runs_as_written(files):
    results, annotations, questions = map(str, files)
    command = [sys.executable, "-m", "tasks.vqa.metric", "--results", results, "--annotations", annotations]
    done = subprocess.run(
        [*command, "--questions", questions], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["overall"] == 66.67


def rewritten(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


@pytest.mark.parametrize(
    ("which", "change", "message"),
    [
        ("results", lambda r: r[:1], r"without 2 question_ids \(1000, 1001\)"),
        ("results", lambda r: [*r, r[0], r[1]], r"2 question_ids \(1002, 1000\) more than once"),
        ("results", lambda r: [*r, {"question_id": 7, "answer": "x"}], r"with 1 question_id \(7\) that"),
        (
            "results",
            lambda r: [{"question_id": 1000, "answer": 3}],
            r"results\[0\]: answer is 3, expected str",
        ),
        ("results", lambda r: [{"answer": "x"}], r"results\[0\]: question_id is None, expected int or str"),
        ("results", lambda r: [[1, "x"]], r"results\[0\]: found a JSON list, expected an object"),
        ("results", lambda r: {"answers": r}, "holds no object under 'results'"),
        (
            "annotations",
            lambda a: a["annotations"][0].pop("answers") and None,
            r"annotations\[0\]: answers is None",
        ),
        (
            "annotations",
            lambda a: a["annotations"].append(a["annotations"][0]),
            "1000 more than once in this file",
        ),
        (
            "questions",
            lambda q: q["questions"].pop() and None,
            r"not of the same split: 1 question_id \(1002\)",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_with_their_ids(files, which, change, message):
    named = dict(zip(("results", "annotations", "questions"), files, strict=True))
    rewritten(named[which], change)
    with pytest.raises(ValueError, match=message):
        score_results(**named)


def test_a_cut_off_file_is_named(files):
    results, annotations, _ = files
    annotations.write_text(annotations.read_text()[:-100])
    with pytest.raises(
        ValueError, match=r"val2014_annotations\.json: not JSON after annotations\[1\] \(was the file cut"
    ):
        score_results(results, annotations)
