"""What each of two gloo processes does for test_distributed.py; no pytest, no transformers."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import cliptd
from cliptd.adapter.student_states import StudentStates
from cliptd.targeted.config import TargetedDistillationConfig
from cliptd.utils.distributed import gather, gather_with_gradient, rank, world_size

CONFIGS = {
    "targeted": TargetedDistillationConfig(confidence_over="batch"),
    "infonce": TargetedDistillationConfig(distance="infonce", confidence="constant"),
    "constant": TargetedDistillationConfig(confidence="constant"),
}


class Student(nn.Module):
    """Words and image tokens; one linear layer each."""

    def __init__(self):
        super().__init__()
        self.text, self.image, self.classify = nn.Linear(5, 6), nn.Linear(4, 6), nn.Linear(12, 3)

    def forward(self, tokens, pixels, labels=None):
        text, image = self.text(tokens), self.image(pixels)
        logits = self.classify(torch.cat([text[:, 0], image.mean(dim=1)], dim=1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def build(config: str) -> nn.Module:
    torch.manual_seed(0)
    states = StudentStates(text="text", image="image", text_mask=None)
    return cliptd.wrap(Student(), embed_dim=8, config=CONFIGS[config], states=states).train()


def inputs(columns: dict) -> dict:
    generator = torch.Generator().manual_seed(4)
    batch = {
        "tokens": torch.randn(8, 7, 5, generator=generator),
        "pixels": torch.randn(8, 3, 4, generator=generator),
        "labels": torch.arange(8) % 3,
    }
    return {**batch, **columns}


def ragged_columns(columns: dict) -> dict:
    """Two regions an instance, and of the first process's half one word and one region only."""
    generator = torch.Generator().manual_seed(5)
    regions = nn.functional.normalize(torch.randn(8, 2, 8, generator=generator), dim=-1)
    region_ids = torch.tensor([[0, -1, 0]] * 4 + [[1, 0, -1]] * 4)
    columns = {name: value.clone() for name, value in columns.items()}
    columns["teacher_word_mask"][:4, :, 1] = False
    columns["teacher_word_embeds"] *= columns["teacher_word_mask"][..., None]
    columns["teacher_word_ids"][:4][columns["teacher_word_ids"][:4] == 1] = -1
    return {**columns, "teacher_region_embeds": regions, "teacher_region_ids": region_ids}


def share_of(batch: dict, index: int) -> dict:
    """A process's half of the batch, padded to its own numbers of words and regions."""
    share = {name: value[4 * index : 4 * index + 4] for name, value in batch.items()}
    if index == 0:
        for name in ("teacher_word_embeds", "teacher_word_mask"):
            share[name] = share[name][:, :, :1]
        share["teacher_region_embeds"] = share["teacher_region_embeds"][:, :1]
    return share


def ragged_loss(rows: torch.Tensor, everyone: torch.Tensor) -> torch.Tensor:
    """Each row against all rows; a sum over the local rows of a function of the whole batch."""
    return (rows @ everyone.T).tanh().square().sum()


def work(index: int, address: str, columns: dict, results: str) -> None:
    """Gather ragged tensors and train one step; every process saves what it found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=index, world_size=2)
    found = {"place": (rank(), world_size())}
    own = slice(0, 3) if index == 0 else slice(3, 8)
    torch.manual_seed(1)
    values = torch.randn(8, 2, dtype=torch.float64)
    rows = values[own].clone().requires_grad_()
    everyone = gather_with_gradient(rows)
    ragged_loss(rows, everyone).backward()
    found["rows"], found["everyone"] = rows.grad, everyone.detach()
    found["flags"] = gather(torch.arange(8)[own] % 2 == 0)
    found["empty"] = gather(torch.zeros(0, 3))
    found["one side empty"] = gather(torch.ones(2 * index, 3))
    for name in CONFIGS:
        model = DistributedDataParallel(build(name))
        output = model(**share_of(inputs(columns), index))
        output["loss"].backward()
        found[name] = {key: value.grad for key, value in model.module.named_parameters()}
        found[f"{name} loss"] = output["loss"].detach()
    torch.save(found, f"{results}/{index}.pt")
    dist.destroy_process_group()
