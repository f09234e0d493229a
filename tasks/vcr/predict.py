"""Run a student over VCR: probabilities, the three metrics, the leaderboard's CSV."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from cliptd.utils.files import whole_file, write_atomically
from cliptd.utils.stopping import leave_signals_to_parent
from tasks.students.columns import student_columns
from tasks.vcr.data import VcrDataset
from tasks.vcr.metric import LEADERBOARD_COLUMNS, vcr_metrics

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Predictions:
    """Probabilities of a dataset's items, in its order.

    answers: (items, 4). rationales: (items, 4), given the right answer, or (items, 4, 4), given each answer.
    """

    annot_ids: list[str]
    answers: np.ndarray
    rationales: np.ndarray


class _Requests(torch.utils.data.Dataset):
    """Examples of a dataset by (item position, task, given answer)."""

    def __init__(self, dataset: VcrDataset, requests: Sequence[tuple[int, str, int | None]]) -> None:
        self.dataset, self.requests = dataset, requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> tuple:
        return self.requests[index], self.dataset.example(*self.requests[index])


def _longest_first(
    dataset: VcrDataset, positions: Iterable[int], given: Literal["gold", "all"]
) -> list[tuple[int, str, int | None]]:
    """Requests of the items, by falling length of text: little padding, and a batch too large fails at once."""
    lengths: dict[tuple[int, str, int | None], int] = {}
    for position in positions:
        item = dataset.item(position)
        question, answers = len(item.question), [len(choice) for choice in item.answer_choices]
        lengths[position, "q_to_a", None] = question + max(answers)
        rationale = question + max(len(choice) for choice in item.rationale_choices)
        for i in [None] if given == "gold" else range(4):
            answer = item.answer_label if i is None else i
            lengths[position, "qa_to_r", i] = rationale + (0 if answer is None else answers[answer])
    return sorted(lengths, key=lengths.__getitem__, reverse=True)


def _collate(collate: Callable, pairs: Sequence[tuple]) -> tuple[list, dict[str, Any]]:
    columns = student_columns(collate, [example for _, example in pairs])
    return [request for request, _ in pairs], columns


@torch.no_grad()
def predict(
    model: nn.Module,
    dataset: VcrDataset,
    collate: Callable[[Sequence], dict[str, Any]],
    *,
    given: Literal["gold", "all"] = "gold",
    batch_size: int = 64,
    num_workers: int = 0,
    accelerator: "Accelerator | None" = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Predictions:
    """Probabilities of answers and rationales.

    model: (B, C, T) batches → logits (B, C), e.g. `MultipleChoice`, wrapped or not; it is left in the mode it
        was in.
    dataset: its `tasks` do not matter here. collate: of the model.
    given: "gold" asks for rationales given the right answer (metrics); "all" given each of the four
        (leaderboard; the only choice without labels).
    batch_size: choices (groups of four texts) a forward, per process.
    accelerator: shares the items between its processes and gives every process all results.
    progress: wraps the batches, e.g. tqdm.
    """
    if given not in ("gold", "all"):
        raise ValueError(f"given is {given!r}; choose 'gold' or 'all'")
    # Processes may run unequal numbers of batches, which the forward of DDP would not survive.
    if accelerator is not None:
        model = accelerator.unwrap_model(model)
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    positions = range(rank * dataset.num_items // processes, (rank + 1) * dataset.num_items // processes)
    loader = DataLoader(
        _Requests(dataset, _longest_first(dataset, positions, given)),
        batch_size,
        num_workers=num_workers,
        collate_fn=partial(_collate, collate),
        worker_init_fn=leave_signals_to_parent,
    )
    device = next(model.parameters()).device
    # Slot 0: answers; slot 1 + i: rationales given answer i (slot 1 alone for the right answer).
    table = torch.zeros(dataset.num_items, 2 if given == "gold" else 5, 4, dtype=torch.float64)
    was_training = model.training
    model.eval()
    for asked, batch in progress(loader):
        logits = model(**{name: value.to(device, non_blocking=True) for name, value in batch.items()}).logits
        for (position, task, answer), row in zip(asked, logits.double().softmax(1).cpu(), strict=True):
            table[position, 0 if task == "q_to_a" else 1 + (answer or 0)] = row
    model.train(was_training)
    if processes > 1:
        # Each row is filled by one process and zero elsewhere; float32 travels on every kind of device.
        table = accelerator.reduce(table.float().to(accelerator.device), reduction="sum").double().cpu()
    rationales = table[:, 1] if given == "gold" else table[:, 1:]
    return Predictions(dataset.column("annot_id"), table[:, 0].numpy(), rationales.numpy())


def evaluate(
    model: nn.Module, dataset: VcrDataset, collate: Callable, *, write_to: Path | None = None, **options: Any
) -> dict[str, float]:
    """q_to_a, qa_to_r and q_to_ar in percent, and items.

    write_to: also write a line an item there, {"annot_id", "answers", "rationales"}, of probabilities.
    options: as for `predict`.

    Raises ValueError without labels.
    """
    answer_labels, rationale_labels = dataset.column("answer_label"), dataset.column("rationale_label")
    if None in answer_labels or None in rationale_labels:
        raise ValueError(
            f"{dataset.lines.path} has items without labels, so nothing can be scored; use `predict`"
        )
    predictions = predict(model, dataset, collate, **{**options, "given": "gold"})
    accelerator = options.get("accelerator")
    if write_to is not None and (accelerator is None or accelerator.is_main_process):
        items = zip(predictions.annot_ids, predictions.answers, predictions.rationales, strict=True)
        lines = [
            {
                "annot_id": key,
                "answers": answers.round(6).tolist(),
                "rationales": rationales.round(6).tolist(),
            }
            for key, answers, rationales in items
        ]
        write_atomically(write_to, "".join(json.dumps(line) + "\n" for line in lines))
    metrics = vcr_metrics(predictions.answers, predictions.rationales, answer_labels, rationale_labels)
    return {**metrics, "items": len(answer_labels)}


def write_leaderboard(path: str | Path, predictions: Predictions) -> None:
    """The CSV that the leaderboard and `python -m tasks.vcr.metric` read; needs `predict(…, given="all")`."""
    if predictions.rationales.ndim != 3:
        raise ValueError(
            f"rationales have shape {predictions.rationales.shape}; the leaderboard wants them given each "
            "answer: predict(…, given='all')"
        )
    table = np.concatenate([predictions.answers[:, None], predictions.rationales], axis=1).reshape(-1, 20)
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(LEADERBOARD_COLUMNS)
        for annot_id, row in zip(predictions.annot_ids, table, strict=True):
            writer.writerow([annot_id, *(f"{value:.8f}" for value in row)])
