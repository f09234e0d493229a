"""The end of a run: its table on the screen and in the run folder, and its learning curves."""

from typing import Any

from cliptd.report import markdown_table, plot_learning_curve, print_table
from tasks.vcr.finetune import FinetuneVcr

METRICS = {"q_to_a": "Q→A", "qa_to_r": "QA→R", "q_to_ar": "Q→AR"}


def table_rows(settings: FinetuneVcr, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows as a reader sees them."""
    shown = []
    for row in rows:
        config = settings.method_config(row["method"])
        weights = {
            "image": config.image_weight,
            "words": config.word_weight,
            "sentences": config.text_weight,
        }
        shown.append(
            {
                "method": row["method"],
                "distilled": " + ".join(name for name, weight in weights.items() if weight > 0) or "nothing",
                "test set": row["test_set"],
                "items": int(row["items"]),
                **{name: row[key] for key, name in METRICS.items()},
            }
        )
    return shown


def report(settings: FinetuneVcr, rows: list[dict[str, Any]]) -> None:
    """Print the table, write report.md and learning curves into the run folder, say where it is."""
    title = (
        f"VCR in percent: student {settings.student}, teacher {settings.teacher}, "
        f"{rows[0]['labelled']} labelled items, seed {settings.seed}"
    )
    shown = table_rows(settings, rows)
    print_table(shown, title=title)
    curves = []
    for method in settings.methods:
        run_dir = settings.run_dir / method
        plot_learning_curve(
            run_dir / "log.jsonl", run_dir / "learning_curve.png", metric=settings.training.metric
        )
        curves.append(f"![{method}]({method}/learning_curve.png)")
    text = "\n\n".join([f"# {title}", markdown_table(shown), *curves])
    (settings.run_dir / "report.md").write_text(text + "\n", encoding="utf-8")
    print(f"Run folder: {settings.run_dir.resolve()}")
