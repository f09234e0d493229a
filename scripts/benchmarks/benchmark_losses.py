"""Measure memory and time of the losses over all pairs by batch size, block by block against whole matrices.

Each measurement is a process of its own. Memory is its peak of resident memory less what it had before the loss; on a
GPU it is what torch allocated. Time is the median of forward and backward. Plain is open_clip's way: whole matrices and
autograd.

    python scripts/benchmarks/benchmark_losses.py --pairs 1024 4096 8192
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from open_clip.loss import ClipLoss
from torch import Tensor

from cliptd.embedding import losses
from cliptd.utils.tables import print_table


@dataclass
class BenchmarkLosses:
    """Settings of the measurement."""

    pairs: tuple[int, ...] = (1024, 4096, 8192)
    """Batch sizes."""
    dim: int = 512
    """Width of student and teacher."""
    repeats: int = 3
    """Measured runs, after one that does not count."""
    skip_plain_above: int = 16_384
    """Larger batches are measured block by block only."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int | None = None
    """CPU threads of torch; None leaves them as they are."""
    out: Path | None = None
    """Also write the rows here, as JSON."""
    one: tuple[Literal["affinity", "contrastive"], Literal["blocks", "plain"]] | None = None
    """Measure this in this process, at the first batch size, and print it; None: all, a process each."""


def main(options: BenchmarkLosses) -> None:
    if options.one:
        print(json.dumps(measure(options)))
        return
    rows = []
    for name in ("contrastive", "affinity"):
        for count in options.pairs:
            row = {"loss": name, "pairs": count}
            for way in ("plain", "blocks"):
                if way == "plain" and count > options.skip_plain_above:
                    continue
                arguments = [
                    "--one",
                    name,
                    way,
                    "--pairs",
                    count,
                    "--dim",
                    options.dim,
                    "--repeats",
                    options.repeats,
                ]
                arguments += [
                    "--device",
                    options.device,
                    *(["--threads", options.threads] if options.threads else []),
                ]
                command = [sys.executable, __file__, *map(str, arguments)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                row |= {
                    f"{way} {key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()
                }
            if "plain MiB" in row:
                row["memory ratio"] = round(row["plain MiB"] / max(row["blocks MiB"], 1), 1)
                row["time ratio"] = round(row["blocks s"] / row["plain s"], 2)
            rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print_table([{key: row.get(key) for key in columns} for row in rows], title="losses")
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


def measure(options: BenchmarkLosses) -> dict[str, float]:
    """Return the peak MiB beyond the embeddings and the median seconds."""
    if options.threads:
        torch.set_num_threads(options.threads)
    name, way = options.one
    count = options.pairs[0]
    generator = torch.Generator().manual_seed(0)
    student_image, student_text, teacher_image, teacher_text = (
        F.normalize(torch.randn(count, options.dim, generator=generator), dim=-1).to(options.device)
        for _ in range(4)
    )
    student_image.requires_grad_()
    student_text.requires_grad_()

    def step() -> None:
        student_image.grad = student_text.grad = None
        if name == "affinity" and way == "blocks":
            loss = losses.affinity_mimicking(
                student_image=student_image,
                student_text=student_text,
                teacher_image=teacher_image,
                teacher_text=teacher_text,
            )
        elif name == "affinity":
            loss = plain_affinity(student_image, student_text, teacher_image, teacher_text)
        elif way == "blocks":
            loss = losses.contrastive(image=student_image, text=student_text, scale=50.0)
        else:
            loss = ClipLoss()(student_image, student_text, torch.tensor(50.0, device=options.device))
        loss.backward()
        if options.device != "cpu":
            torch.cuda.synchronize()

    before, seconds = peak_bytes(options.device), []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    used = peak_bytes(options.device) - before
    return {"MiB": round(used / 2**20), "s": round(statistics.median(seconds[1:]), 3)}


def plain_affinity(
    student_image: Tensor, student_text: Tensor, teacher_image: Tensor, teacher_text: Tensor
) -> Tensor:
    """Return the loss of affinity mimicking with whole matrices, as the public code computes it."""
    logits, teacher = 50 * student_image @ student_text.T, 50 * teacher_image @ teacher_text.T
    to_texts = F.cross_entropy(logits, teacher.softmax(dim=1))
    to_images = F.cross_entropy(logits.T, teacher.T.softmax(dim=1))
    return (to_texts + to_images) / 2


def peak_bytes(device: str) -> int:
    """Return the most bytes that this process ever held."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(tyro.cli(BenchmarkLosses, description=__doc__))
