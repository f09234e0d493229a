"""The pairs of a file that a model of the hypothesis alone gets wrong: what cannot be guessed without the image.

    python -m tasks.snli_ve.hard --train snli_ve_train.jsonl --annotations snli_ve_dev.jsonl --out hard.jsonl

The model is a linear classifier over hashed words and pairs of neighbouring words, trained on the training file; part
of SNLI's labels can be told from the hypothesis alone (arXiv 1803.02324). It learns and is judged by corrected
labels, if any are given.
"""

import argparse
import json
import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliptd.data.files.jsonl import JsonLines, parsed_lines
from cliptd.utils.files import write_lines
from tasks.snli_ve.data import parse_pair, read_corrected_labels
from tasks.snli_ve.labels import LABELS, NO_LABEL

BUCKETS = 2**18
EPOCHS = 5
BATCH_SIZE = 64
LEARNING_RATE = 1e-2


class HypothesisModel:
    """Guesses labels from hypotheses.

    fit: hypotheses and labels (indices into LABELS). seed: of the order of training; the same texts, labels and seed
    give the same model.

    Raises ValueError for no pair.
    """

    def __init__(self, hypotheses: Sequence[str], labels: Sequence[int], *, seed: int = 0) -> None:
        if not len(hypotheses) or len(hypotheses) != len(labels):
            raise ValueError(
                f"{len(hypotheses)} hypotheses and {len(labels)} labels; expected as many, at least one"
            )
        self.weights = nn.EmbeddingBag(BUCKETS, len(LABELS), mode="mean", sparse=True)
        nn.init.zeros_(self.weights.weight)
        optimizer = torch.optim.SparseAdam(self.weights.parameters(), lr=LEARNING_RATE)
        features = [_features(text) for text in hypotheses]
        targets = torch.tensor(labels)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(features), generator=generator).split(BATCH_SIZE):
                loss = F.cross_entropy(self._logits([features[row] for row in rows.tolist()]), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def predict(self, hypotheses: Sequence[str]) -> list[int]:
        """The most likely label of each."""
        chosen: list[int] = []
        for start in range(0, len(hypotheses), 1024):
            logits = self._logits([_features(text) for text in hypotheses[start : start + 1024]])
            chosen += logits.argmax(1).tolist()
        return chosen

    def _logits(self, features: list[list[int]]) -> Tensor:
        counts = torch.tensor([0, *(len(row) for row in features[:-1])])
        return self.weights(torch.tensor([index for row in features for index in row]), counts.cumsum(0))


def write_hard(
    train: str | Path,
    annotations: str | Path,
    out: str | Path,
    *,
    corrected_labels: str | Path | None = None,
    on_bad_sample: Literal["raise", "skip"] = "raise",
    seed: int = 0,
) -> dict[str, float]:
    """Write the lines of `annotations` that the model of the hypothesis alone gets wrong, as they are.

    corrected_labels: as of `SnliVeDataset`; who reads the lines needs them, too.
    on_bad_sample: "raise" at a bad line, or "skip": leave it out and warn.

    Pairs without a label are left out of both. Returns how many pairs were looked at, had no label and were kept, and
    the accuracy of the model in percent.
    Raises ValueError and FileNotFoundError that name file and line.
    """
    corrections = {} if corrected_labels is None else read_corrected_labels(corrected_labels)
    learned, _ = _labelled(train, corrections, on_bad_sample)
    rows, without_label = _labelled(annotations, corrections, on_bad_sample)
    model = HypothesisModel([text for _, text, _ in learned], [label for *_, label in learned], seed=seed)
    guesses = model.predict([text for _, text, _ in rows])
    wrong = [index for (index, _, label), guess in zip(rows, guesses, strict=True) if guess != label]
    lines = JsonLines(annotations)
    write_lines(out, (json.dumps(lines.raw(index), ensure_ascii=False) for index in wrong))
    return {
        "pairs": len(rows),
        "without_label": without_label,
        "kept": len(wrong),
        "accuracy_of_the_hypothesis_alone": round(100 * (1 - len(wrong) / len(rows)), 2),
    }


def _labelled(
    path: str | Path, corrections: dict[str, str], on_bad_sample: Literal["raise", "skip"]
) -> tuple[list[tuple[int, str, int]], int]:
    """Number of the line, hypothesis and label of every pair that has one, and how many have none."""
    lines = JsonLines(path)
    rows, without_label = [], 0
    for index, pair in parsed_lines(lines, parse_pair, on_bad_sample):
        label = corrections.get(pair["pair_id"], pair["label"])
        if label is None:
            raise ValueError(
                f"{lines.where(index)}: no gold_label, so it is not known whether a guess is wrong"
            )
        if label == NO_LABEL:
            without_label += 1
        else:
            rows.append((index, pair["hypothesis"], LABELS.index(label)))
    if not rows:
        raise ValueError(f"{path}: no pair has a label")
    return rows, without_label


def _features(text: str) -> list[int]:
    words = ["<", *re.findall(r"\w+|[^\w\s]", text.lower()), ">"]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return [zlib.crc32(feature.encode()) % BUCKETS for feature in (*words, *pairs)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.snli_ve.hard", description=__doc__.split("\n")[0])
    parser.add_argument("--train", required=True, help="SNLI-VE jsonl to learn from")
    parser.add_argument("--annotations", required=True, help="SNLI-VE jsonl whose hard pairs are kept")
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--corrected-labels", help="CSV or TSV with pairID and gold_label")
    parser.add_argument("--on-bad-sample", default="raise", choices=["raise", "skip"], help="at a bad line")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(write_hard(**vars(parser.parse_args(arguments)))))


if __name__ == "__main__":
    main()
