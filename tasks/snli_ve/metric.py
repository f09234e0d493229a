"""SNLI-VE's accuracy, over all pairs and per class, in percent.

    python -m tasks.snli_ve.metric --predictions P.jsonl --annotations snli_ve_dev.jsonl

A line of the predictions: {"pairID": …, "prediction": "entailment" | "neutral" | "contradiction"}.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cliptd.data.files.jsonl import JsonLines
from tasks.snli_ve.data import parse_pair, read_corrected_labels
from tasks.snli_ve.labels import LABELS, NO_LABEL


def snli_ve_metrics(predictions: Sequence[int], labels: Sequence[int]) -> dict[str, Any]:
    """accuracy and per_class {label: accuracy among the pairs that have it}, in percent, and the number of pairs.

    predictions, labels: (pairs,) indices into `LABELS`.
    Raises ValueError for other shapes, no pair, or an index outside 0..2.

    >>> snli_ve_metrics([0, 1, 1, 2], [0, 1, 2, 2])["per_class"]
    {'entailment': 100.0, 'neutral': 100.0, 'contradiction': 50.0}
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            f"predictions have shape {predictions.shape} and labels {labels.shape}; expected (pairs,) twice, with at "
            "least one pair"
        )
    for name, values in (("prediction", predictions), ("label", labels)):
        bad = np.flatnonzero(~np.isin(values, range(len(LABELS))))
        if len(bad):
            raise ValueError(f"{name} of pair {bad[0]} is {values[bad[0]]}, expected 0 to {len(LABELS) - 1}")
    right = predictions == labels
    return {
        "accuracy": 100 * float(right.mean()),
        "per_class": {
            name: 100 * float(right[labels == number].mean())
            for number, name in enumerate(LABELS)
            if (labels == number).any()
        },
        "pairs": len(labels),
    }


def score_predictions(
    predictions: str | Path, annotations: str | Path, corrected_labels: str | Path | None = None
) -> dict[str, Any]:
    """`snli_ve_metrics` of a predictions file, and how many pairs have no label ("-") and are not scored.

    Pairs without a label may be predicted or left out. A pairID that is double in the annotations is double in the
    predictions, in the same order.

    Raises ValueError that lists the pairIDs which are missing from the predictions, double in them, or unknown.
    """
    predicted: defaultdict[str, list[int]] = defaultdict(list)
    lines = JsonLines(predictions)
    for index in range(len(lines)):
        line, where = lines.raw(index), lines.where(index)
        if not isinstance(line.get("pairID"), str):
            raise ValueError(f"{where}: pairID is {line.get('pairID')!r}, expected a text")
        if line.get("prediction") not in LABELS:
            raise ValueError(
                f"{where}: prediction is {line.get('prediction')!r}, expected {', '.join(LABELS)}"
            )
        predicted[line["pairID"]].append(LABELS.index(line["prediction"]))
    corrections = {} if corrected_labels is None else read_corrected_labels(corrected_labels)
    annotated: defaultdict[str, list[str]] = defaultdict(list)
    lines = JsonLines(annotations)
    for index in range(len(lines)):
        pair = parse_pair(lines.raw(index), lines.where(index))
        label = corrections.get(pair["pair_id"], pair["label"])
        if label is None:
            raise ValueError(f"{lines.where(index)}: no gold_label, so nothing can be scored")
        annotated[pair["pair_id"]].append(label)
    rows, missing, double, without_label = [], [], [], 0
    for pair_id, labels in annotated.items():
        guesses, scored = predicted.get(pair_id, []), [label for label in labels if label != NO_LABEL]
        without_label += len(labels) - len(scored)
        if len(guesses) == len(labels):
            rows += [
                (guess, label) for guess, label in zip(guesses, labels, strict=True) if label != NO_LABEL
            ]
        elif len(guesses) == len(scored):
            rows += zip(guesses, scored, strict=True)
        else:
            (double if len(guesses) > len(scored) else missing).append(pair_id)
    if double:
        raise ValueError(f"{predictions}: {_listed(double)} more than once; expected every pair once")
    unknown = [pair_id for pair_id in predicted if pair_id not in annotated]
    if missing or unknown:
        parts = [f"without {_listed(missing)} of {annotations}"] * bool(missing)
        parts += [f"with {_listed(unknown)} that {annotations} does not have"] * bool(unknown)
        raise ValueError(f"{predictions}: {' and '.join(parts)}; expected one prediction a labelled pair")
    if not rows:
        raise ValueError(f"{annotations}: no pair has a label, so nothing can be scored")
    guesses, labels = zip(*rows, strict=True)
    scores = snli_ve_metrics(guesses, [LABELS.index(label) for label in labels])
    return {**scores, "without_label": without_label}


def _listed(pair_ids: Sequence[str]) -> str:
    shown = ", ".join(pair_ids[:5]) + (" …" if len(pair_ids) > 5 else "")
    return f"{len(pair_ids)} pairID{'s' * (len(pair_ids) > 1)} ({shown})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.snli_ve.metric", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--predictions", required=True, help='jsonl: {"pairID", "prediction"} a line')
    parser.add_argument("--annotations", required=True, help="SNLI-VE jsonl with gold labels")
    parser.add_argument("--corrected-labels", help="CSV or TSV with pairID and gold_label")
    options = parser.parse_args(arguments)
    print(json.dumps(score_predictions(options.predictions, options.annotations, options.corrected_labels)))


if __name__ == "__main__":
    main()
