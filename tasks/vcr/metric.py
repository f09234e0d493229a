"""VCR's three numbers, from arrays or from the leaderboard CSV.

Q→A: the right answer. QA→R: the right rationale, given the right answer. Q→AR: both right on the same item
(not the product of the two). All in percent.

    python -m tasks.vcr.metric --predictions P.csv --annotations val.jsonl
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cliptd.data.files.text_files import csv_columns, csv_rows

ANSWER_COLUMNS = [f"answer_{i}" for i in range(4)]
RATIONALE_COLUMNS = [f"rationale_conditioned_on_a{i}_{j}" for i in range(4) for j in range(4)]
LEADERBOARD_COLUMNS = ["annot_id", *ANSWER_COLUMNS, *RATIONALE_COLUMNS]
SUM_TOLERANCE = 1e-3  # probabilities are often printed with few digits


def vcr_metrics(answers, rationales, answer_labels, rationale_labels) -> dict[str, float]:
    """Q→A, QA→R and Q→AR in percent.

    answers: (items, 4) scores of the answers.
    rationales: (items, 4) scores of the rationales given the right answer.
    answer_labels, rationale_labels: (items,) right indices.

    Raises ValueError for other shapes, no item, NaN or infinite scores, labels outside 0..3.

    >>> answers, rationales = [[0.7, 0.1, 0.1, 0.1], [0.4, 0.3, 0.2, 0.1]], [[0, 0, 0, 1], [0, 1, 0, 0]]
    >>> vcr_metrics(answers, rationales, answer_labels=[0, 1], rationale_labels=[3, 1])
    {'q_to_a': 50.0, 'qa_to_r': 100.0, 'q_to_ar': 50.0}
    """
    right = []
    for name, scores, labels in (
        ("answer", answers, answer_labels),
        ("rationale", rationales, rationale_labels),
    ):
        scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
        if scores.ndim != 2 or scores.shape[1] != 4 or len(scores) == 0 or labels.shape != scores.shape[:1]:
            raise ValueError(
                f"{name} scores have shape {scores.shape} and labels {labels.shape}; expected (items, 4) "
                "and (items,) with at least one item"
            )
        if not np.isfinite(scores).all():
            raise ValueError(
                f"{name} scores of item {_first(~np.isfinite(scores).all(1))} are not finite numbers"
            )
        if not np.isin(labels, range(4)).all():
            bad = _first(~np.isin(labels, range(4)))
            raise ValueError(f"{name} label of item {bad} is {labels[bad]}, expected 0 to 3")
        right.append(scores.argmax(1) == labels)
    if len(right[0]) != len(right[1]):
        raise ValueError(
            f"{len(right[0])} items with answers, {len(right[1])} with rationales; expected the same"
        )
    answer, rationale = right
    return {
        "q_to_a": 100 * float(answer.mean()),
        "qa_to_r": 100 * float(rationale.mean()),
        "q_to_ar": 100 * float((answer & rationale).mean()),
    }


def read_leaderboard(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """annot_ids, answers (items, 4) and rationales (items, given answer, 4) of a leaderboard CSV.

    Raises ValueError, naming file and line, for missing columns, a value that is no finite number,
    probabilities that are negative or do not sum to 1 (within 1e-3).
    """
    annot_ids, rows = [], []
    columns = csv_columns(path)
    missing = [column for column in LEADERBOARD_COLUMNS if column not in columns]
    if missing:
        raise ValueError(
            f"{path}: no column {', '.join(missing)}; expected annot_id, answer_0..3 and "
            "rationale_conditioned_on_a{0..3}_{0..3}"
        )
    for line, row in csv_rows(path):
        where = f"{path}:{line}, annot_id {row['annot_id']!r}"
        try:
            values = np.array([float(row[column]) for column in LEADERBOARD_COLUMNS[1:]])
        except (TypeError, ValueError):
            bad = next(c for c in LEADERBOARD_COLUMNS[1:] if not _is_number(row[c]))
            raise ValueError(f"{where}: {bad} is {row[bad]!r}, expected a probability") from None
        if not np.isfinite(values).all():
            bad = LEADERBOARD_COLUMNS[1 + _first(~np.isfinite(values))]
            raise ValueError(f"{where}: {bad} is {row[bad]}, expected a probability")
        sums = values.reshape(5, 4).sum(1)
        wrong = (values.reshape(5, 4) < 0).any(1) | (np.abs(sums - 1) > SUM_TOLERANCE)
        if wrong.any():
            group = _first(wrong)
            name = "answer_0..3" if group == 0 else f"rationale_conditioned_on_a{group - 1}_0..3"
            raise ValueError(
                f"{where}: {name} are {values.reshape(5, 4)[group].tolist()} with sum {sums[group]:g}, "
                "expected four probabilities that sum to 1 (a softmax of the scores)"
            )
        annot_ids.append(row["annot_id"])
        rows.append(values)
    table = np.array(rows).reshape(-1, 5, 4)
    return annot_ids, table[:, 0], table[:, 1:]


def score_leaderboard(predictions: str | Path, annotations: str | Path) -> dict[str, float]:
    """q_to_a, qa_to_r, q_to_ar (percent) and items of a leaderboard CSV against a labelled VCR jsonl.

    Raises ValueError listing annot_ids that are missing from the CSV, double in it, or unknown to the
    annotations.
    """
    from tasks.vcr.items import iterate_items

    annot_ids, answers, rationales = read_leaderboard(predictions)
    row_of = {annot_id: row for row, annot_id in enumerate(annot_ids)}
    if len(row_of) != len(annot_ids):
        raise ValueError(
            f"{predictions}: {_listed(_doubles(annot_ids))} more than once; expected one line per item"
        )
    rows, answer_labels, rationale_labels, missing = [], [], [], []
    known = set()
    for _, item in iterate_items(annotations, classes=None):
        if item.answer_label is None or item.rationale_label is None:
            raise ValueError(
                f"{item.where}: no labels, so nothing can be scored; use train.jsonl or val.jsonl"
            )
        known.add(item.annot_id)
        if item.annot_id not in row_of:
            missing.append(item.annot_id)
            continue
        rows.append(row_of[item.annot_id])
        answer_labels.append(item.answer_label)
        rationale_labels.append(item.rationale_label)
    unknown = [annot_id for annot_id in annot_ids if annot_id not in known]
    if missing or unknown:
        parts = [f"without {_listed(missing)} of {annotations}"] * bool(missing)
        parts += [f"with {_listed(unknown)} that {annotations} does not have"] * bool(unknown)
        raise ValueError(f"{predictions}: {' and '.join(parts)}; expected exactly one line per item")
    labels = np.array(answer_labels, dtype=np.int64)
    given_gold = rationales[rows, labels]
    return {**vcr_metrics(answers[rows], given_gold, labels, rationale_labels), "items": len(rows)}


def _listed(annot_ids: Sequence[str]) -> str:
    shown = ", ".join(annot_ids[:5]) + (" …" if len(annot_ids) > 5 else "")
    return f"{len(annot_ids)} annot_id{'s' * (len(annot_ids) > 1)} ({shown})"


def _doubles(annot_ids: Sequence[str]) -> list[str]:
    seen, double = set(), {}
    for annot_id in annot_ids:
        if annot_id in seen:
            double[annot_id] = None
        seen.add(annot_id)
    return list(double)


def _first(mask: np.ndarray) -> int:
    return int(np.flatnonzero(mask)[0])


def _is_number(text: str | None) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.vcr.metric", description=__doc__.split("\n")[0])
    parser.add_argument("--predictions", required=True, help="leaderboard CSV: 20 probabilities a line")
    parser.add_argument("--annotations", required=True, help="labelled VCR jsonl, e.g. val.jsonl")
    options = parser.parse_args(arguments)
    print(json.dumps(score_leaderboard(options.predictions, options.annotations)))


if __name__ == "__main__":
    main()
