"""SNLI-VE's accuracy from arrays, from files and by command, by hand."""

import json
import subprocess
import sys

import pytest

from tasks.snli_ve.labels import LABELS
from tasks.snli_ve.metric import main, score_predictions, snli_ve_metrics
from tests.helpers.commands import REPOSITORY

GOLD = {"a": "entailment", "b": "entailment", "c": "neutral", "d": "contradiction", "e": "-"}
SCORES = {
    "accuracy": 50.0,
    "per_class": {"entailment": 50.0, "neutral": 100.0, "contradiction": 0.0},
    "pairs": 4,
    "without_label": 1,
}


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def files(tmp_path):
    annotations = [
        {"pairID": pair_id, "gold_label": label, "sentence2": "h", "Flikr30kID": "1"}
        for pair_id, label in GOLD.items()
    ]
    told = {"d": "neutral", "c": "neutral", "b": "contradiction", "a": "entailment", "e": "neutral"}
    predictions = [{"pairID": pair_id, "prediction": label} for pair_id, label in told.items()]
    return write(tmp_path / "P.jsonl", predictions), write(tmp_path / "dev.jsonl", annotations), predictions


def test_files_are_scored_without_the_pairs_that_have_no_label(files, capsys):
    predictions, annotations, lines = files
    main(["--predictions", str(predictions), "--annotations", str(annotations)])
    assert json.loads(capsys.readouterr().out) == SCORES
    write(predictions, lines[:-1])  # a pair without a label needs no prediction
    assert score_predictions(predictions, annotations) == SCORES


def test_corrected_labels_are_scored(files, tmp_path):
    predictions, annotations, _ = files
    (tmp_path / "corrected.csv").write_text("pairID,gold_label\nb,contradiction\ne,neutral\n")
    scores = score_predictions(predictions, annotations, tmp_path / "corrected.csv")
    assert (scores["accuracy"], scores["pairs"], scores["without_label"]) == (80.0, 5, 0)


def test_the_command_runs_as_written(files):
    predictions, annotations, _ = map(str, files)
    command = [
        sys.executable,
        "-m",
        "tasks.snli_ve.metric",
        "--predictions",
        predictions,
        "--annotations",
        annotations,
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == SCORES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lines: lines[2:],
            r"without 2 pairIDs \(c, d\) of .*; expected one prediction a labelled pair",
        ),
        (lambda lines: [*lines, lines[0]], r"1 pairID \(d\) more than once"),
        (
            lambda lines: [*lines, {"pairID": "z", "prediction": "neutral"}],
            r"with 1 pairID \(z\) that .* does not have",
        ),
        (
            lambda lines: [{"pairID": "a", "prediction": "yes"}],
            r"P\.jsonl:1: prediction is 'yes', expected entailment",
        ),
        (lambda lines: [{"prediction": "neutral"}], r"P\.jsonl:1: pairID is None"),
    ],
)
def test_predictions_that_do_not_fit_are_refused_with_their_ids(files, change, message):
    predictions, annotations, lines = files
    write(predictions, change(lines))
    with pytest.raises(ValueError, match=message):
        score_predictions(predictions, annotations)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "with at least one pair"),
        (([0], [0, 1]), r"predictions have shape \(1,\) and labels \(2,\)"),
        (([0, 3], [0, 1]), "prediction of pair 1 is 3, expected 0 to 2"),
        (([0, 1], [-1, 1]), "label of pair 0 is -1"),
    ],
)
def test_bad_arrays_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        snli_ve_metrics(*arguments)


def test_a_class_that_does_not_occur_has_no_accuracy():
    assert list(snli_ve_metrics([1], [1])["per_class"]) == [LABELS[1]]


def test_a_pair_id_that_is_double_in_the_annotations_is_predicted_as_often_in_the_same_order(tmp_path):
    labels = ["neutral", "-", "entailment"]
    same = {"pairID": "a", "sentence2": "h", "Flikr30kID": "1"}
    annotations = write(tmp_path / "test.jsonl", [{**same, "gold_label": label} for label in labels])

    def score(*guesses):
        lines = [{"pairID": "a", "prediction": guess} for guess in guesses]
        return score_predictions(write(tmp_path / "P.jsonl", lines), annotations)

    assert (
        score("neutral", "neutral")["accuracy"] == 50
    )  # without the pair that has no label, as our files are
    assert score("neutral", "neutral", "entailment")["accuracy"] == 100
    with pytest.raises(ValueError, match=r"without 1 pairID \(a\)"):
        score("neutral")
    with pytest.raises(ValueError, match=r"1 pairID \(a\) more than once"):
        score(*["neutral"] * 4)
