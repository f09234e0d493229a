"""Measure the training speed of open_clip's own distillation and of ours: same models, files, batches and objective.

Each measurement is a process of its own that runs a whole training: `open_clip_train.main` as installed, or
`cliptd.embedding.distillation.distil`. Both are timed by the same hook on their optimizer, from the end of the first
steps to the end of the last. The ways take turns in every round, each round in another order. The figures are medians
over rounds, also of the ratios within a round. The objective is open_clip's: contrastive plus the teacher's affinities,
each model at its own scale.

    pip install -e ".[benchmark]"
    python scripts/benchmarks/benchmark_distillation.py   # iconworld's teacher and its half, this machine
    python scripts/benchmarks/benchmark_distillation.py --size vit-b32   # ViT-B/32 and half, random weights: a GPU
"""

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import tyro
from torch.optim.optimizer import register_optimizer_step_post_hook

from cliptd.data.pairs.csv_pairs import CsvPairs
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil
from cliptd.embedding.inheritance import inherit_weights, share_config
from cliptd.embedding.student import Student, load_student
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.config import Reinforcement
from cliptd.reinforcement.making import reinforce
from cliptd.reinforcement.training import distil_reinforced
from cliptd.teachers import load_teacher
from cliptd.training import TrainingConfig, make_accelerator
from cliptd.utils.tables import print_table
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.models import TEACHER

Way = Literal[
    "open_clip plain", "open_clip live", "ours plain", "ours live", "ours stored", "ours reinforced"
]
WAYS: tuple[Way, ...] = get_args(Way)
RATIOS = (
    ("ours live", "open_clip live"),
    ("ours plain", "open_clip plain"),
    ("ours stored", "ours plain"),
    ("ours stored", "open_clip plain"),
    ("ours reinforced", "ours plain"),
)
CROP = (0.9, 1.0)
"""Share of the image in the crops that open_clip and ours train with. A store and reinforced data hold two such crops
of each image, and their embeddings."""


@dataclass
class BenchmarkDistillation:
    """Settings of the measurement."""

    size: Literal["iconworld", "vit-b32"] = "iconworld"
    """iconworld's teacher, or a ViT-B/32 with random weights, which cost as much as trained ones."""
    batch_size: int = 64
    """Pairs a step."""
    steps: int = 40
    """Measured steps of each training, after five that do not count."""
    rounds: int = 5
    """Trainings of each way."""
    workers: int = 1
    """Processes of each training that read images."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Precision of autocast in both."""
    threads: int | None = None
    """CPU threads of torch; None leaves them as they are."""
    out: Path | None = None
    """Also write the measurements here, as JSON."""
    one: tuple[Way, Path] | None = None
    """Run this training in this process, on the files of this folder, and print its speed; None: all."""


WARM_UP = 5


def main(options: BenchmarkDistillation) -> None:
    if options.one is not None:
        print(json.dumps(measure(options, *options.one)))
        return
    speeds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        write_files(options, Path(folder))
        for turn in range(options.rounds):
            for way in WAYS[turn % len(WAYS) :] + WAYS[: turn % len(WAYS)]:
                speeds[way].append(_in_a_process(options, way, folder))
                print(f"round {turn + 1}: {way} {speeds[way][-1]:.1f} pairs/s", flush=True)
    rows = [
        {"way": way, "pairs/s": round(statistics.median(found), 1), "least": min(found), "most": max(found)}
        for way, found in speeds.items()
    ]
    ratios = [{"ratio": f"{a} / {b}", **_ratio(speeds[a], speeds[b])} for a, b in RATIOS]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print_table(rows, title=f"{options.size}, batches of {options.batch_size}, {device}")
    print_table(ratios, title="ratios within a round")
    if options.out is not None:
        found = {
            "settings": dataclasses.asdict(options),
            "device": device,
            "speeds": speeds,
            "ratios": ratios,
        }
        options.out.write_text(json.dumps(found, indent=2, default=str) + "\n")


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "median": round(statistics.median(each), 3),
        "least": round(min(each), 3),
        "most": round(max(each), 3),
    }


def _in_a_process(options: BenchmarkDistillation, way: Way, folder: str) -> float:
    command = [sys.executable, __file__, "--one", way, folder]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("one", "out", "rounds") and value is not None:
            command += [f"--{field.name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{way} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def write_files(options: BenchmarkDistillation, folder: Path) -> None:
    """Write teacher and student as open_clip folders, and images with a CSV, as open_clip_train takes them."""
    teacher = _teacher(options)
    teacher.save(folder / "teacher")
    config = share_config(teacher.config["model_cfg"], 0.5)
    student = inherit_weights(teacher.model, config)
    dataclasses.replace(teacher, model=student, config={**teacher.config, "model_cfg": config}).save(
        folder / "student"
    )
    pictures = folder / "pictures"
    pictures.mkdir()
    lines = ["filepath\ttitle"]
    size = teacher.config["preprocess_cfg"]["size"]
    size = size if isinstance(size, int) else size[0]
    for index, pair in enumerate(IconworldPairs(options.batch_size * (options.steps + WARM_UP))):
        path = pictures / f"{index}.jpg"
        pair.image().resize((size, size)).save(path, quality=95)
        lines.append(f"{path}\t{pair.text}")
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _teacher(options: BenchmarkDistillation) -> Student:
    if options.size == "iconworld":
        return load_student(str(TEACHER))
    return load_student("ViT-B-32")


def measure(options: BenchmarkDistillation, way: Way, folder: Path) -> float:
    """Return the pairs a second of one training."""
    if options.threads:
        torch.set_num_threads(options.threads)
    ends: list[float] = []

    def note(*_) -> None:
        if len(ends) + 1 in (WARM_UP, WARM_UP + options.steps) and torch.cuda.is_available():
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    hook = register_optimizer_step_post_hook(note)
    library, kind = way.split()
    with tempfile.TemporaryDirectory() as run_dir:
        (_open_clip if library == "open_clip" else _ours)(options, kind, folder, Path(run_dir))
    hook.remove()
    expected = WARM_UP + options.steps
    if len(ends) != expected:
        raise RuntimeError(f"{way} made {len(ends)} steps, expected {expected}")
    return options.batch_size * options.steps / (ends[-1] - ends[WARM_UP - 1])


def _open_clip(options: BenchmarkDistillation, kind: str, folder: Path, run_dir: Path) -> None:
    from open_clip_train.main import main as train

    precision = {"no": "fp32", "bf16": "amp_bf16", "fp16": "amp"}[options.precision]
    arguments = ["--model", f"local-dir:{folder / 'student'}", "--train-data", folder / "pairs.tsv"]
    arguments += ["--dataset-type", "csv", "--csv-separator", "\t", "--batch-size", options.batch_size]
    arguments += ["--workers", options.workers, "--epochs", 1, "--logs", run_dir, "--precision", precision]
    arguments += [
        "--device",
        "cuda" if torch.cuda.is_available() else "cpu",
        "--lr",
        1e-4,
        "--beta2",
        0.98,
        "--wd",
        0.2,
        "--warmup",
        10,
    ]
    arguments += ["--grad-clip-norm", 5.0, "--save-frequency", 0]
    if kind == "live":  # a local folder brings its weights; the second argument has to be there
        arguments += ["--distill-model", f"local-dir:{folder / 'teacher'}", "--distill-pretrained", "there"]
    train([str(argument) for argument in arguments])


def _ours(options: BenchmarkDistillation, kind: str, folder: Path, run_dir: Path) -> None:
    training = TrainingConfig(
        steps=WARM_UP + options.steps, batch_size=options.batch_size, lr=1e-4, weight_decay=0.2, betas=(0.9, 0.98),
        clip_norm=5.0, warmup_steps=10, eval_every=0, save_every=0, num_workers=options.workers, metric="none",
        mixed_precision=options.precision,
    )  # fmt: skip
    accelerator = make_accelerator(training, run_dir)
    student, teacher = load_student(str(folder / "student")), load_teacher(str(folder / "teacher"))
    pairs = CsvPairs(folder / "pairs.tsv", "filepath", "title", separator="\t")
    options_of_a_run = {
        "run_dir": run_dir / "run", "evaluate": lambda student: {"none": 0.0}, "accelerator": accelerator,
    }  # fmt: skip
    if kind == "reinforced":
        made = Reinforcement(augmentations=2, captions=0, scale=CROP, operations=0)
        reinforce(pairs, teacher, made, folder / "reinforced")
        settings = Distillation(objective="reinforced", distill_weight=0.5, training=training)
        distil_reinforced(
            student, ReinforcedStore(folder / "reinforced", pairs), settings, **options_of_a_run
        )
        return
    settings = Distillation(
        weights={"contrastive": 1.0} | ({} if kind == "plain" else {"affinity": 1.0}),
        crop=CROP,
        training=training,
        **({} if kind == "plain" else {"affinity_scale": None}),
        **({"source": "store", "store": folder / "store", "crops": 2} if kind == "stored" else {}),
    )
    distil(student, teacher.to(accelerator.device), pairs, settings, **options_of_a_run)


if __name__ == "__main__":
    main(tyro.cli(BenchmarkDistillation, description=__doc__))
