"""Fine-tune a student on VCR with each of several methods and score it in and out of domain.

Scripts parse `FinetuneVcr` from the command line; experiments call `finetune` directly.
"""

import copy
import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from tqdm import tqdm
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from cliptd.targeted.collator import DistillationCollator
from cliptd.training import make_accelerator, train
from cliptd.training.files import write_atomically
from cliptd.wrap import wrap
from tasks.vcr.collate import PatchCollator, RegionCollator
from tasks.vcr.data import VcrDataset
from tasks.vcr.predict import evaluate, predict, write_leaderboard
from tasks.vcr.regions import RegionFeatures
from tasks.vcr.settings import FinetuneVcr
from tasks.vcr.shift import write_shifted
from tasks.vcr.split import training_sets
from tasks.vcr.students import MultipleChoice, load_student
from tasks.vcr.teacher_source import teacher_source

REGION_MEMORY = 2**29
"""Bytes of region features that a process keeps; the others are read from the disk."""
REGION_STUDENTS = ("visual_bert", "lxmert")
RESULT_SETTINGS = ("max_text_tokens", "teacher_text", "teacher_boxes", "regions", "region_mode", "source")
"""Settings that change what is learned: a run folder refuses others when it is resumed."""


def finetune(settings: FinetuneVcr) -> list[dict[str, Any]]:
    """Train and score every method; rows of results, also in `run_dir`/results.json.

    Each row has method, test_set, q_to_a, qa_to_r, q_to_ar in percent, items, labelled (items), seed and
    best_step.
    """
    # load_student itself says which weights are fresh
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    accelerator = make_accelerator(settings.training, settings.run_dir)
    main = accelerator.is_main_process
    training_set, validation_set, split = training_sets(settings.data, settings.seed)
    tests = _test_sets(settings, accelerator)
    unlabelled = None
    if settings.leaderboard:  # its file must be there, and every item must be answered
        options = {**settings.data.dataset_options, "on_bad_sample": "raise"}
        unlabelled = VcrDataset.from_root(settings.data.data_root, "test", **options)
    collate = load_collate(settings, accelerator.device)
    if isinstance(collate, RegionCollator):
        _precompute_regions(collate.regions, [training_set, validation_set, *tests.values()], accelerator)
    asking_collate = copy.copy(collate)  # the same tokenizer and regions; its batches ask the teacher, too
    asking_collate.distillation = True
    rows = []
    for method in settings.methods:
        config = settings.method_config(method)
        run_dir = settings.run_dir / method
        torch.manual_seed(settings.seed)
        student = load_vcr_student(settings, collate)
        batches, source = collate, None
        if config.distils:
            source, frequency = teacher_source(
                settings, config, training_set, collate, accelerator, split["training_hash"]
            )
            batches = DistillationCollator(asking_collate, source, config, document_frequency=frequency)
        torch.manual_seed(settings.seed)  # the heads start alike, however the teacher was loaded
        model = wrap(student, source, config)

        def validate(model) -> dict[str, float]:
            return _scores(model, validation_set, collate, settings, accelerator)

        described = {
            "method": method,
            "distillation": dataclasses.asdict(config),
            "student": settings.student,
            "teacher": f"{settings.teacher} {settings.pretrained or ''}".strip() if config.distils else None,
            "teacher_fingerprint": None if source is None else source.fingerprint,
            "split": split,
            "tasks": settings.data.tasks,
            **{name: getattr(settings, name) for name in RESULT_SETTINGS},
        }
        result = train(
            model,
            training_set,
            batches,
            settings.training,
            run_dir=run_dir,
            evaluate=validate,
            accelerator=accelerator,
            settings=described,
        )
        student = model.unwrap()
        common = {
            "method": method,
            "labelled": training_set.num_items,
            "seed": settings.seed,
            "best_step": result.best_step,
        }
        rows.append({**common, "test_set": "validation", **result.best_metrics})
        for name, dataset in tests.items():
            rows.append(
                {**common, "test_set": name, **_scores(student, dataset, collate, settings, accelerator)}
            )
        if main:
            student.save_pretrained(run_dir / "student")
            AutoTokenizer.from_pretrained(settings.student).save_pretrained(run_dir / "student")
            if isinstance(collate, PatchCollator):
                collate.image_transform.save_pretrained(run_dir / "student")
        if unlabelled is not None:
            _write_leaderboard(student, unlabelled, collate, settings, accelerator, run_dir)
        accelerator.free_memory()
    if main:
        left_out = {name: dataset.skipped for name, dataset in tests.items() if dataset.skipped}
        content = {"settings": _plain(settings), "split": split, "left_out_of_tests": left_out, "rows": rows}
        write_atomically(settings.run_dir / "results.json", json.dumps(content, indent=2) + "\n")
    return rows


def _test_sets(settings: FinetuneVcr, accelerator: Accelerator) -> dict[str, VcrDataset]:
    """Named test sets; the edited ones are written to the run folder first."""
    options = settings.data.dataset_options
    images = settings.data.data_root / "vcr1images"
    files = {}
    for name in settings.test_sets:
        files[name] = settings.data.data_root / f"{name}.jsonl"
        if name in ("singular", "plural"):
            files[name] = settings.run_dir / f"val_{name}.jsonl"
            if accelerator.is_main_process:
                files[name].parent.mkdir(parents=True, exist_ok=True)
                write_shifted(name, settings.data.data_root / "val.jsonl", files[name])
    accelerator.wait_for_everyone()
    tests = {}
    for name, path in files.items():
        if not path.is_file():
            raise FileNotFoundError(f"test set {name!r}: {path} does not exist; see --test-sets")
        tests[name] = VcrDataset(path, images, **options)
    if settings.data.hold_out_movies:
        for dataset in tests.values():  # what is in domain shows none of the held-out movies
            movies = zip(dataset.indices, dataset.column("movie"), strict=True)
            dataset.indices = [
                k for k, movie in movies if not movie.startswith(settings.data.hold_out_movies)
            ]
        tests["held-out movies"] = settings.data.held_out_items()
    for dataset in tests.values():
        dataset.indices = dataset.indices[: settings.max_test_items]
    for name in [name for name, dataset in tests.items() if not dataset.num_items]:
        accelerator.print(f"test set {name!r} holds no item and is left out")
    return {name: dataset for name, dataset in tests.items() if dataset.num_items}


def load_vcr_student(settings: FinetuneVcr, collate: PatchCollator | RegionCollator) -> MultipleChoice:
    """The student, its head fresh; `collate` from `load_collate`."""
    if isinstance(collate, RegionCollator):
        return load_student(settings.student, visual_dim=collate.regions.dim)
    kind = AutoConfig.from_pretrained(settings.student).model_type
    return load_student(
        settings.student, max_text_tokens=settings.max_text_tokens if kind == "vilt" else None
    )


def load_collate(settings: FinetuneVcr, device: torch.device | str = "cpu") -> PatchCollator | RegionCollator:
    """The student's own collator; a region backbone runs on `device`."""
    kind = AutoConfig.from_pretrained(settings.student).model_type
    tokenizer = AutoTokenizer.from_pretrained(settings.student)
    text = {
        "teacher_boxes": settings.teacher_boxes,
        "max_length": settings.max_text_tokens,
        "teacher_text": settings.teacher_text,
    }
    if kind not in REGION_STUDENTS:
        return PatchCollator(tokenizer, AutoImageProcessor.from_pretrained(settings.student), **text)
    if settings.regions is None:
        raise ValueError(
            f"student {settings.student!r} reads region features: name a backbone, such as --regions resnet50"
        )
    cache = settings.region_cache or settings.run_dir / "regions"
    regions = RegionFeatures(settings.regions, mode=settings.region_mode, cache=cache, device=device)
    collate = RegionCollator(tokenizer, regions, model=kind, **text)
    regions.memory = REGION_MEMORY // (4 * regions.dim * collate.max_regions)
    return collate


def _precompute_regions(
    regions: RegionFeatures, datasets: list[VcrDataset], accelerator: Accelerator
) -> None:
    """Compute every region feature once, on the accelerator; collating only reads them."""
    if accelerator.is_main_process:
        for dataset in datasets:
            regions.precompute(dataset, partial(tqdm, desc="regions", unit="item", disable=None))
    accelerator.wait_for_everyone()


def _scores(model, dataset: VcrDataset, collate, settings: FinetuneVcr, accelerator) -> dict[str, float]:
    scores = evaluate(
        model,
        dataset,
        collate,
        batch_size=settings.eval_batch_size,
        num_workers=settings.training.num_workers,
        accelerator=accelerator,
    )
    of_task = {"both": ("q_to_a", "qa_to_r"), "q_to_a": ("q_to_a",), "qa_to_r": ("qa_to_r",)}[
        settings.data.tasks
    ]
    return {**scores, "mean": sum(scores[name] for name in of_task) / len(of_task)}


def _write_leaderboard(student, dataset, collate, settings, accelerator, run_dir: Path) -> None:
    predictions = predict(
        student,
        dataset,
        collate,
        given="all",
        batch_size=settings.eval_batch_size,
        num_workers=settings.training.num_workers,
        accelerator=accelerator,
    )
    if accelerator.is_main_process:
        write_leaderboard(run_dir / "leaderboard.csv", predictions)


def _plain(settings: FinetuneVcr) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))
