"""The end of a run: its table on the screen and in the run folder, and its learning curves."""

from typing import Any

from cliptd.report import markdown_table, plot_learning_curve, print_table
from tasks.vcr.settings import FinetuneVcr

METRICS = {"q_to_a": "Q→A", "qa_to_r": "QA→R", "q_to_ar": "Q→AR"}
TERMS = {
    "image_weight": "image",
    "region_weight": "boxes",
    "word_weight": "words",
    "text_weight": "sentences",
}


def table_rows(settings: FinetuneVcr, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows as a reader sees them; of a student of one subtask its metric alone."""
    tasks = settings.data.tasks
    metrics = METRICS if tasks == "both" else {tasks: METRICS[tasks]}
    shown = []
    for row in rows:
        config = settings.method_config(row["method"])
        terms = [name for weight, name in TERMS.items() if getattr(config, weight) > 0]
        if settings.teacher_boxes == "none" and "boxes" in terms:
            terms.remove("boxes")
        shown.append(
            {
                "method": row["method"],
                "distilled": " + ".join(terms) or "nothing",
                "test set": row["test_set"],
                "items": int(row["items"]),
                **{name: row[key] for key, name in metrics.items()},
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
