"""Measure an open_clip or transformers CLIP: zero-shot classification, retrieval, linear probes.

Writes OUT/results.json and OUT/results.md, in percent, anew after every data set.

    python scripts/evaluate_clip.py --model ViT-B-32 --pretrained openai --zero-shot imagenet/val imagenet-r \\
        --retrieval coco.csv --linear-probe pets --out runs/clip_b32
    python scripts/evaluate_clip.py --model runs/student/model --zero-shot imagenet/val --out runs/student/evaluation
    python scripts/evaluate_clip.py --model runs/student/model --suite sets.yaml --out runs/student/suite

A suite is a YAML list of data sets and shifted versions of them; see cliptd/evaluation/suite_file.py.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.pair import OnBadSample
from cliptd.evaluation.linear_probe import linear_probe, probe_folders
from cliptd.evaluation.objectnet import labelled_images
from cliptd.evaluation.results import TITLES, table_rows, write_results
from cliptd.evaluation.retrieval import retrieval
from cliptd.evaluation.suite import averages, evaluate_suite
from cliptd.evaluation.suite_file import read_suite
from cliptd.evaluation.zero_shot import TEMPLATES, read_templates, zero_shot
from cliptd.teachers import load_teacher
from cliptd.utils.tables import print_table
from tasks.command_line import command, parse_options


@dataclass(kw_only=True)
class EvaluateClip:
    """Which model, on which data."""

    model: str
    """An open_clip name, an open_clip folder, or hf: and the id or folder of a transformers CLIP."""
    pretrained: str | None = None
    """Of an open_clip name: its pretrained tag or a checkpoint file."""
    zero_shot: tuple[Path, ...] = ()
    """Folders with a folder of images for each class, or ObjectNet's with its mappings."""
    templates: Path | None = None
    """Prompt templates for zero-shot, a line each with "{}" where the class name goes. None: seven general ones."""
    retrieval: tuple[str, ...] = ()
    """Image–text pairs: a .csv or .tsv as open_clip_train takes it, shards, a folder, a table."""
    csv_img_key: str = "filepath"
    """The column of image paths (or images)."""
    csv_caption_key: str = "title"
    """The column of texts."""
    csv_separator: str | None = None
    """Of a CSV. None: a tab for .tsv, else a comma."""
    linear_probe: tuple[Path, ...] = ()
    """Folders with train/, test/ and perhaps val/, each with a folder of images for each class."""
    suite: Path | None = None
    """A YAML list of data sets, plain and shifted, for one table of zero-shot, linear probes and drops."""
    on_bad_sample: OnBadSample = "raise"
    """Stop at a bad image, or leave it out, counted and listed."""
    batch_size: int = 256
    """Images or texts per forward."""
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    """Where the model runs."""
    out: Path = Path("runs/evaluation")
    """Where the results go."""


@command
def main(arguments: list[str]) -> None:
    asked = parse_options(EvaluateClip, arguments, description=__doc__)
    bad = {"on_bad_sample": asked.on_bad_sample}
    # Everything that is listed is looked at before the model is loaded.
    templates = read_templates(asked.templates) if asked.templates else list(TEMPLATES)
    columns = {"image_column": asked.csv_img_key, "text_column": asked.csv_caption_key}
    jobs = [
        ("zero_shot", path, zero_shot, labelled_images(path), {"templates": templates})
        for path in asked.zero_shot
    ]
    for path in asked.retrieval:
        pairs = load_pairs(path, **columns, separator=asked.csv_separator, **bad)
        jobs.append(("retrieval", path, retrieval, pairs, {}))
    jobs += [("linear_probe", path, linear_probe, probe_folders(path), {}) for path in asked.linear_probe]
    suite = read_suite(asked.suite) if asked.suite else []
    if not jobs and not suite:
        raise SystemExit(
            "nothing to evaluate; give --zero-shot, --retrieval, --linear-probe or --suite, or several of them"
        )
    model = load_teacher(asked.model, asked.pretrained, device=asked.device, batch_size=asked.batch_size)
    results = {"model": model.name, "fingerprint": model.fingerprint, "templates": templates}
    for kind, path, evaluate, data, options in jobs:
        found = evaluate(model, data, **options, **bad)
        results.setdefault(kind, []).append({"name": Path(path).resolve().name, "path": str(path), **found})
        write_results(asked.out, results)
    if suite:

        def keep(rows: list[dict]) -> None:
            results["suite"] = [*rows, *averages(rows)]
            write_results(asked.out, results)

        evaluate_suite(model, suite, templates=templates, **bad, after_each=keep)
    for kind, title in TITLES.items():
        if kind in results:
            print_table(table_rows(kind, results[kind]), title=title)
    print(f"Results: {(asked.out / 'results.md').resolve()}")


if __name__ == "__main__":
    main()
