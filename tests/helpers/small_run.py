"""A run of a fraction of a second: a two-layer classifier whose log shows which samples it saw."""

import torch
from torch import nn

from cliptd.training import TrainingConfig, TrainingResult, train

ITEMS, WIDTH, CLASSES = 50, 6, 4


class Points:
    """Labelled points by number."""

    def __init__(self):
        generator = torch.Generator().manual_seed(7)
        self.features = torch.randn(ITEMS, WIDTH, generator=generator)
        self.labels = self.features[:, :CLASSES].argmax(1)

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> dict:
        noise = 0.01 * torch.randn(WIDTH)  # augmentation from the global generator
        return {"index": index, "features": self.features[index] + noise, "label": self.labels[index]}


def collate(examples: list[dict]) -> dict:
    return {
        "features": torch.stack([example["features"] for example in examples]),
        "labels": torch.stack([example["label"] for example in examples]),
        "indices": torch.tensor([example["index"] for example in examples]),
        "keys": [str(example["index"]) for example in examples],  # not tensors: handed over as they are
        "nothing": None,
    }


class Classifier(nn.Module):
    def __init__(self, dropout: float = 0.0):
        super().__init__()
        torch.manual_seed(3)
        self.hidden = nn.Linear(WIDTH, 16)
        self.norm = nn.LayerNorm(16)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(16, CLASSES)
        self.last_terms = {}

    def forward(self, features, labels=None, indices=None, keys=None, nothing=None):
        logits = self.head(self.dropout(self.norm(torch.relu(self.hidden(features)))))
        if labels is None:
            return {"logits": logits}
        # Two moments of the sample numbers: a repeated, lost or exchanged sample changes the log.
        numbers = indices.double()
        self.last_terms = {"samples": numbers.mean(), "samples_squared": numbers.square().mean()}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def evaluate(model: nn.Module) -> dict[str, float]:
    points = Points()
    predicted = model(points.features)["logits"].argmax(1)
    torch.rand(3)  # draws from the global generator: training must not notice
    return {"q_to_a": (predicted == points.labels).float().mean().item()}


def run(run_dir, *, dropout: float = 0.0, model: nn.Module | None = None, **settings) -> TrainingResult:
    settings = {
        "steps": 12,
        "batch_size": 8,
        "lr": 0.02,
        "eval_every": 4,
        "save_every": 3,
        "metric": "q_to_a",
        **settings,
    }
    model = Classifier(dropout) if model is None else model
    return train(model, Points(), collate, TrainingConfig(**settings), run_dir=run_dir, evaluate=evaluate)
