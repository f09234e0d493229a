"""Q→A, QA→R, Q→AR from arrays, from the leaderboard CSV, by command and through `evaluate`."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tasks.vcr.metric import LEADERBOARD_COLUMNS, main, score_leaderboard, vcr_metrics
from tests.helpers.commands import REPOSITORY
from tests.helpers.tiny_vcr import tiny_item, write_items

MISS, HIT = [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]  # for label 0


def test_q_to_ar_is_both_right_on_the_same_item_not_the_product():
    answers, rationales = [HIT, HIT, MISS, MISS], [MISS, MISS, HIT, HIT]
    zeros = [0] * 4
    assert vcr_metrics(answers, rationales, zeros, zeros) == {"q_to_a": 50.0, "qa_to_r": 50.0, "q_to_ar": 0.0}
    assert vcr_metrics(answers, answers, zeros, zeros)["q_to_ar"] == 50.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([HIT], [HIT], [0, 1], [0]), r"answer scores have shape \(1, 4\) and labels \(2,\)"),
        (([HIT[:3]], [HIT], [0], [0]), r"expected \(items, 4\)"),
        (([], [], [], []), "with at least one item"),
        (([HIT], [[0.1, float("nan"), 0, 0]], [0], [0]), "rationale scores of item 0 are not finite"),
        (([HIT, HIT], [HIT, HIT], [0, 4], [0, 0]), "answer label of item 1 is 4, expected 0 to 3"),
        (([HIT, HIT], [HIT], [0, 0], [0]), "2 items with answers, 1 with rationales"),
    ],
)
def test_bad_arrays_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        vcr_metrics(*arguments)


def one_hot(index, confidence=0.7):
    return [confidence if i == index else (1 - confidence) / 3 for i in range(4)]


def write_csv(path, rows, columns=LEADERBOARD_COLUMNS):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def row(annot_id, answer, rationales):
    """rationales: the favourite given each of the four answers."""
    return [annot_id, *one_hot(answer), *(p for favourite in rationales for p in one_hot(favourite))]


@pytest.fixture
def files(tmp_path):
    """Labels (0, 1), (1, 2), (2, 3), (3, 0); predictions in another order than the annotations."""
    annotations = write_items(tmp_path / "val.jsonl", [tiny_item(n) for n in range(4)])
    rows = [
        row("val-3", 3, [1, 1, 1, 0]),  # both right (the rationale given answer 3)
        row("val-0", 0, [2, 1, 1, 1]),  # answer right; given the right answer the rationale is wrong
        row("val-1", 2, [0, 2, 0, 0]),  # answer wrong; rationale right given the right answer
        row("val-2", 2, [0, 0, 3, 0]),  # both right
    ]
    return tmp_path / "P.csv", rows, annotations


def test_leaderboard_csv_is_scored_given_the_right_answer(files, capsys):
    path, rows, annotations = files
    main(["--predictions", str(write_csv(path, rows)), "--annotations", str(annotations)])
    assert json.loads(capsys.readouterr().out) == {
        "q_to_a": 75.0,
        "qa_to_r": 75.0,
        "q_to_ar": 50.0,
        "items": 4,
    }


def test_extra_columns_and_another_column_order_do_not_matter(files):
    path, rows, annotations = files
    order = [*range(20, -1, -1)]
    rows = [[*(r[i] for i in order), "note"] for r in rows]
    write_csv(path, rows, [*(LEADERBOARD_COLUMNS[i] for i in order), "extra"])
    assert score_leaderboard(path, annotations)["q_to_a"] == 75.0


def changed(rows, index, column, value):
    rows = [list(r) for r in rows]
    rows[index][column] = value
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r[:-1],
            r"without 1 annot_id \(val-2\) of .*val\.jsonl; expected exactly one line per item",
        ),
        (lambda r: [*r, r[0]], r"1 annot_id \(val-3\) more than once"),
        (
            lambda r: [*r, row("val-9", 0, [0] * 4)],
            r"with 1 annot_id \(val-9\) that .*val\.jsonl does not have",
        ),
        (lambda r: changed(r, 1, 2, 0.9), r"P\.csv:3, annot_id 'val-0': answer_0..3 are .* with sum 1.8"),
        (lambda r: changed(r, 0, 5, 0.9), r"P\.csv:2, .*: rationale_conditioned_on_a0_0..3 are"),
        (lambda r: changed(r, 0, 7, "nan"), r"P\.csv:2, .*: rationale_conditioned_on_a0_2 is nan"),
        (lambda r: changed(r, 0, 1, "high"), r"P\.csv:2, .*: answer_0 is 'high', expected a probability"),
        (lambda r: changed(changed(r, 0, 1, -0.2), 0, 2, 0.3), r"P\.csv:2, .*: answer_0..3 are \[-0.2"),
        (lambda r: [r[0][:15], *r[1:]], r"P\.csv:2, .*: rationale_conditioned_on_a2_2 is None"),
    ],
)
def test_bad_predictions_are_named(files, change, message):
    path, rows, annotations = files
    write_csv(path, change(rows))
    with pytest.raises(ValueError, match=message):
        score_leaderboard(path, annotations)


def test_missing_columns_are_named(files):
    path, rows, annotations = files
    write_csv(path, [r[:-1] for r in rows], LEADERBOARD_COLUMNS[:-1])
    with pytest.raises(ValueError, match="no column rationale_conditioned_on_a3_3"):
        score_leaderboard(path, annotations)


def test_annotations_without_labels_are_refused(files):
    path, rows, annotations = files
    write_csv(path, rows)
    write_items(annotations, [tiny_item(0, answer_label=None)])
    with pytest.raises(ValueError, match=r"val\.jsonl:1, annot_id 'val-0': no labels"):
        score_leaderboard(path, annotations)


def test_command_and_evaluate_metric_agree_offline(files):
    path, rows, annotations = files
    write_csv(path, rows)
    program = (
        "import json, evaluate, sys\n"
        "metric = evaluate.load('tasks/vcr/vcr_metric.py')\n"
        "print(json.dumps(metric.compute(**json.loads(sys.argv[1]))))\n"
    )
    labels = {"val-3": (3, 0), "val-0": (0, 1), "val-1": (1, 2), "val-2": (2, 3)}
    predictions, references = [], []
    for r in rows:
        answer, rationale = labels[r[0]]
        conditioned = np.array(r[5:]).reshape(4, 4)[answer].tolist()
        predictions.append({"answer": r[1:5], "rationale": conditioned})
        references.append({"answer_label": answer, "rationale_label": rationale})
    argument = json.dumps({"predictions": predictions, "references": references})
    cache = path.parent / "cache"
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
    }
    outputs = []
    for command in (
        ["-m", "tasks.vcr.metric", "--predictions", str(path), "--annotations", str(annotations)],
        ["-c", program, argument],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(json.loads(done.stdout))
    assert outputs[0] == {**outputs[1], "items": 4}
