"""Measure what distillation costs a training step: without a teacher, with a stored one, with a live one.

The kinds of step take turns on the same examples, so that a slow moment of the machine slows all alike. Medians and
ratios of paired steps are printed as JSON. A step is collating, moving, forward, backward and update.

    python scripts/benchmarks/benchmark_overhead.py                          # iconworld's student, this machine
    python scripts/benchmarks/benchmark_overhead.py --student-size vilt-b32  # a random ViLT-B/32, for a GPU
"""

import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from accelerate.utils import send_to_device
from transformers import AutoTokenizer, ViltConfig, ViltForImageAndTextRetrieval, ViltImageProcessor

import cliptd
from cliptd.store.live import LiveSource
from cliptd.targeted import DistillationCollator, DistillationInputs, precompute
from tasks.batches.collators import PatchCollator
from tasks.finetuning.teacher_source import TeacherQuestions
from tasks.iconworld.defaults import on_iconworld, vcr_root, vcr_settings, with_data
from tasks.students.models import MultipleChoice
from tasks.vcr.marks import marked
from tasks.vcr.split import training_sets
from tasks.vcr.task import load_collate, load_vcr_student
from tasks.vcr.texts import ChoiceTexts


@dataclass
class BenchmarkOverhead:
    """Settings of the measurement."""

    student_size: Literal["iconworld", "vilt-b32"] = "iconworld"
    """iconworld's VisualBERT, or a ViLT-B/32 with random weights, which cost as much as trained ones."""
    batch_size: int = 32
    """Four-way choices a step."""
    steps: int = 40
    """Measured steps of each kind, after three that do not count."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int | None = None
    """CPU threads of torch; None leaves them as they are."""
    out: Path | None = None
    """Also write the JSON here."""


def main(settings: BenchmarkOverhead) -> None:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    task = on_iconworld(with_data(vcr_settings(), items=200), vcr_root())
    examples, _, _ = training_sets(task.data, task.seed)
    if settings.student_size == "iconworld":
        collate = load_collate(task)
        collate.regions.precompute(examples)  # cached for every kind of step alike
        student = load_vcr_student(task, collate)
    else:
        student = MultipleChoice(ViltForImageAndTextRetrieval(ViltConfig(max_position_embeddings=64)))
        tokenizer = AutoTokenizer.from_pretrained(task.student)
        texts = ChoiceTexts(tokenizer, max_length=64)
        collate = PatchCollator(texts, ViltImageProcessor(), draw=marked(texts))
    config = task.method_config("targeted")
    teacher = cliptd.load_teacher(task.teacher, device=device)

    with tempfile.TemporaryDirectory() as folder:
        with cliptd.StoreWriter(folder, teacher) as writer:
            precompute(TeacherQuestions((examples, collate)), writer, config)
        store = cliptd.TeacherStore.open(folder, teacher)
        pictures = [examples.example(k, "q_to_a").image for k in range(100)]

        def live() -> LiveSource:
            source = LiveSource(teacher, calibration=pictures)
            source.image_mean()
            return source

        kinds = {"plain": None, "stored": store, "live": live()}
        models = {kind: _trainable(student, source, config, device) for kind, source in kinds.items()}
        collates = {
            kind: collate if source is None else DistillationCollator(collate, source, config)
            for kind, source in kinds.items()
        }
        # The live teacher's own share of a batch whose texts it knows already, and of one that is new to it.
        times: dict[str, list[float]] = {kind: [] for kind in (*kinds, "teacher_images", "live_first_sight")}
        n = settings.batch_size
        for step in range(settings.steps + 3):
            batch = [examples[(step * n + k) % len(examples)] for k in range(n)]
            order = list(kinds)[step % 3 :] + list(kinds)[: step % 3]
            for kind in order:
                collate.distillation = kind != "plain"
                if kind == "live":
                    if step % 8 == 0:  # costly: a new source has seen no text yet
                        fresh = DistillationCollator(collate, live(), config)
                        times["live_first_sight"].append(_time(device, _step, models[kind], fresh, batch))
                    collates[kind](batch)  # its texts are known from now on
                times[kind].append(_time(device, _step, models[kind], collates[kind], batch))
            opened = _pictures(collate.distillation_inputs(batch))
            times["teacher_images"].append(_time(device, teacher.encode_images, opened))
        measured = {kind: values[3:] if len(values) > 3 else values for kind, values in times.items()}
    plain = measured["plain"]
    report = {
        "student": settings.student_size,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "batch_size": n,
        "steps": settings.steps,
        "median_ms": {kind: round(1000 * statistics.median(v), 2) for kind, v in measured.items()},
        "median_ratio_to_plain": {
            kind: round(statistics.median(a / b for a, b in zip(measured[kind], plain, strict=True)), 4)
            for kind in ("stored", "live")
        },
        "teacher_forward_share": round(
            statistics.median(a / b for a, b in zip(measured["teacher_images"], plain, strict=True)), 4
        ),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if settings.out:
        settings.out.write_text(text + "\n")


def _trainable(student, source, config, device):
    copied = copy.deepcopy(student)
    model = (copied if source is None else cliptd.wrap(copied, source, config)).to(device).train()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5)


def _step(trainable, collate: Callable, batch: list) -> None:
    model, optimizer = trainable
    columns = send_to_device(collate(batch), next(model.parameters()).device)
    columns.pop("distillation_inputs", None)
    model(**columns).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def _pictures(inputs: DistillationInputs) -> list:
    """Return what the live teacher looks at in a batch: each image and each region once, opened."""
    found = dict(zip(inputs.image_keys, inputs.images, strict=True))
    for keys, regions in zip(inputs.region_keys or [], inputs.regions or [], strict=True):
        found.update(zip(keys, regions, strict=True))
    return [picture() for picture in found.values()]


def _time(device: torch.device, call: Callable, *arguments) -> float:
    """Return the seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(BenchmarkOverhead))
