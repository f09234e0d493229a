"""Measure an open_clip or transformers CLIP: zero-shot classification, retrieval, linear probes.

Writes OUT/results.json and OUT/results.md, in percent, anew after every data set.

    python scripts/evaluate_clip.py --model ViT-B-32 --pretrained openai --zero-shot imagenet/val imagenet-r \\
        --retrieval coco.csv --linear-probe pets --out runs/clip_b32
    python scripts/evaluate_clip.py --model runs/student/model --zero-shot imagenet/val --out runs/student/evaluation
    python scripts/evaluate_clip.py --model runs/student/model --suite sets.yaml --out runs/student/suite

A suite is a YAML list of data sets and shifted versions of them; see cliptd/evaluation/suite_file.py.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from cliptd.data.pairs.pair import OnBadSample
from cliptd.utils.options import shown_default
from tasks.command_line import as_started, command, parse_options


@dataclass(kw_only=True)
class EvaluateClip:
    """Which model, on which data."""

    model: str
    """The name of an open_clip model, the path of an open_clip folder, or hf: and the id or folder of a transformers
    CLIP."""
    pretrained: Annotated[str | None, shown_default("none")] = None
    """Pretrained tag or checkpoint file of an open_clip name."""
    zero_shot: tuple[Path, ...] = ()
    """Folders with a folder of images for each class, or ObjectNet's with its mappings."""
    templates: Annotated[Path | None, shown_default("seven general ones")] = None
    """Prompt templates for zero-shot, one a line, with "{}" in the place of the class name."""
    retrieval: tuple[str, ...] = ()
    """Image–text pairs: a .csv or .tsv as open_clip_train takes it, shards, a folder, or a table."""
    csv_img_key: str = "filepath"
    """Column of image paths (or images)."""
    csv_caption_key: str = "title"
    """Column of texts."""
    csv_separator: Annotated[str | None, shown_default("a tab for .tsv, else a comma")] = None
    """Separator of a .csv or .tsv."""
    linear_probe: tuple[Path, ...] = ()
    """Folders with train/, test/ and perhaps val/, each with a folder of images for each class."""
    suite: Annotated[Path | None, shown_default("none")] = None
    """A YAML list of data sets, plain and shifted, for one table of zero-shot, linear probes and drops."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at an image that cannot be read (raise), or skip it and list it (skip)."""
    batch_size: int = 256
    """Images or texts per forward."""
    device: Annotated[str | None, shown_default("cuda if there is a GPU, else cpu")] = None
    """Device on which the model runs."""
    out: Path = Path("runs/evaluation")
    """Folder of the results."""

    def __post_init__(self) -> None:
        if not (self.zero_shot or self.retrieval or self.linear_probe or self.suite):
            raise ValueError(
                "nothing to evaluate; give --zero-shot, --retrieval, --linear-probe or --suite, or several of them"
            )


class Job(NamedTuple):
    """An evaluation of the model on one data set: the key of its results, its path and its function."""

    kind: str
    path: str | Path
    evaluate: Callable[..., dict[str, Any]]
    data: Any
    options: dict[str, Any]


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(EvaluateClip, arguments, description=__doc__)
    import torch

    from cliptd.evaluation.results import TITLES, table_rows, write_results
    from cliptd.evaluation.suite import averages, evaluate_suite
    from cliptd.evaluation.suite_file import read_suite
    from cliptd.evaluation.zero_shot import TEMPLATES, read_templates
    from cliptd.teachers import load_teacher
    from cliptd.utils.environment import environment
    from cliptd.utils.tables import print_table

    # Everything that is listed is looked at before the model is loaded.
    templates = read_templates(asked.templates) if asked.templates else list(TEMPLATES)
    jobs = _jobs(asked, templates)
    suite = read_suite(asked.suite) if asked.suite else []
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = load_teacher(asked.model, asked.pretrained, device=device, batch_size=asked.batch_size)
    results: dict[str, Any] = {"model": model.name, "fingerprint": model.fingerprint, "templates": templates}
    results |= environment()
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)} {TITLES[job.kind].lower()}] {job.path}", flush=True)
        found = job.evaluate(model, job.data, **job.options, on_bad_sample=asked.on_bad_sample)
        row = {"name": Path(job.path).resolve().name, "path": str(job.path), **found}
        results.setdefault(job.kind, []).append(row)
        write_results(asked.out, {**results, **environment()})
    if suite:

        def keep(rows: list[dict[str, Any]]) -> None:
            results["suite"] = [*rows, *averages(rows)]
            write_results(asked.out, {**results, **environment()})

        evaluate_suite(model, suite, templates=templates, on_bad_sample=asked.on_bad_sample, after_each=keep)
    for kind, title in TITLES.items():
        if kind in results:
            print_table(table_rows(kind, results[kind]), title=f"{title}, in percent")
    print(f"Results: {(asked.out / 'results.md').resolve()}")
    print(as_started(f"Next: {_next(asked)}"))


def _jobs(asked: EvaluateClip, templates: list[str]) -> list[Job]:
    """List the data of every evaluation but the suite's.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read; the message names the file.
    """
    from cliptd.data.pairs.loading import load_pairs
    from cliptd.evaluation.linear_probe import linear_probe, probe_folders
    from cliptd.evaluation.objectnet import labelled_images
    from cliptd.evaluation.retrieval import retrieval
    from cliptd.evaluation.zero_shot import zero_shot

    jobs = [
        Job("zero_shot", path, zero_shot, labelled_images(path), {"templates": templates})
        for path in asked.zero_shot
    ]
    for source in asked.retrieval:
        pairs = load_pairs(
            source,
            image_column=asked.csv_img_key,
            text_column=asked.csv_caption_key,
            separator=asked.csv_separator,
            on_bad_sample=asked.on_bad_sample,
        )
        jobs.append(Job("retrieval", source, retrieval, pairs, {}))
    return jobs + [
        Job("linear_probe", path, linear_probe, probe_folders(path), {}) for path in asked.linear_probe
    ]


def _next(asked: EvaluateClip) -> str:
    """Return the command that is often typed after this one."""
    name = shlex.quote(asked.model) + (
        f" --pretrained {shlex.quote(asked.pretrained)}" if asked.pretrained else ""
    )
    if asked.model.startswith("hf:"):  # which has no towers to export
        return (
            f"accelerate launch scripts/distill_embeddings.py --teacher {name} --student STUDENT --data DATA"
        )
    return f"python scripts/export.py --model {name} --out runs/onnx"


if __name__ == "__main__":
    main()
