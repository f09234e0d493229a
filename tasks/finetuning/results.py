"""The end of a run: its table on the screen and in the run folder, and its learning curves."""

from typing import Any

from cliptd.utils.tables import markdown_table, plot_learning_curve, print_table
from tasks.settings import FinetuneSettings

TERMS = {
    "image_weight": "image",
    "region_weight": "boxes",
    "word_weight": "words",
    "text_weight": "sentences",
}


def table_rows(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows as a reader sees them."""
    shown = []
    for row in rows:
        config = settings.method_config(row["method"])
        terms = [name for weight, name in TERMS.items() if getattr(config, weight) > 0]
        if not settings.sees_boxes and "boxes" in terms:
            terms.remove("boxes")
        shown.append(
            {
                "method": row["method"],
                "distilled": " + ".join(terms) or "nothing",
                "test set": row["test_set"],
                "items": int(row["items"]),
                **{name: row.get(key) for key, name in settings.metrics.items()},
            }
        )
    return shown


def report(settings: FinetuneSettings, rows: list[dict[str, Any]]) -> None:
    """Print the table, write report.md and learning curves into the run folder, say where it is."""
    title = (
        f"{settings.task} in percent: student {settings.student}, teacher {settings.teacher}, "
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
