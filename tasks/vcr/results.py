"""The end of a run: its table on the screen and in the run folder, and its learning curves."""

from typing import Any

from cliptd.report import print_table, save_curves, save_table
from tasks.vcr.finetune import FinetuneVcr

METRICS = {"q_to_a": "Q→A", "qa_to_r": "QA→R", "q_to_ar": "Q→AR"}


def table_rows(settings: FinetuneVcr, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows as a reader sees them; percentages with two digits."""
    shown = []
    for row in rows:
        config = settings.method_config(row["method"])
        weights = {"image": config.image_weight, "words": config.word_weight, "sentences": config.text_weight}
        distilled = ", ".join(name for name, weight in weights.items() if weight > 0) or "nothing"
        shown.append(
            {
                "method": row["method"],
                "distilled": distilled,
                "labelled items": row["labelled"],
                "seed": row["seed"],
                "test set": row["test_set"],
                **{name: f"{row[key]:.2f}" for key, name in METRICS.items()},
            }
        )
    return shown


def report(settings: FinetuneVcr, rows: list[dict[str, Any]]) -> None:
    """Print the table, write results.md and curves.png into the run folder, say where it is."""
    title = f"VCR, student {settings.student}, teacher {settings.teacher}"
    shown = table_rows(settings, rows)
    print_table(shown, title=title)
    save_table(shown, settings.run_dir / "results.md", title=title)
    save_curves(
        {method: settings.run_dir / method / "log.jsonl" for method in settings.methods},
        settings.run_dir / "curves.png",
        metric=settings.training.metric,
    )
    print(f"Run folder: {settings.run_dir.resolve()}")
