"""The card of a fine-tuned student: what it is, how it was made, how well it does, how to load it."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cliptd.data.identity import wherever
from cliptd.targeted.config import Method
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import markdown_table
from tasks.settings import FinetuneSettings


def write_model_card(
    folder: Path, settings: FinetuneSettings, method: Method, rows: list[dict[str, Any]]
) -> None:
    """Write `folder`/README.md, which the Hub reads as a model card; it names no path of this machine.

    Args:
        rows: the result rows of this method.
    """
    name = f"{settings.task}, {method}"
    base = wherever(settings.student)
    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=settings.task.lower(),
            dataset_name=f"{settings.task}, {row['test_set']}",
            metric_type=key,
            metric_name=shown,
            metric_value=round(row[key], 2),
        )
        for row in rows
        for key, shown in settings.metrics.items()
        if row.get(key) is not None
    ]
    data = ModelCardData(
        library_name="transformers",
        license="other",
        license_name="as-of-the-base-model",
        base_model=base if "/" in base else None,
        tags=["cliptd", "vision-language", method],
        model_name=name,
        eval_results=results,
    )
    shown = [
        {"test set": row["test_set"], **{title: row.get(key) for key, title in settings.metrics.items()}}
        for row in rows
    ]
    distilled = settings.method_config(method).distils
    made = (
        f"distilled from the teacher {wherever(settings.teacher)}"
        if distilled
        else "trained without distillation"
    )
    text = f"""---
{data.to_yaml()}
---

# {name}

The student {base}, fine-tuned on {rows[0]["labelled"]} labelled items of {settings.task} and {made} by cliptd.
The teacher is not needed any more: this folder holds the student alone.

Scores in percent, of the best step on validation ({rows[0]["best_step"]}), seed {settings.seed}:

{markdown_table(shown)}

Load it with the library it came from:

```python
from transformers import AutoConfig, AutoTokenizer

config = AutoConfig.from_pretrained("path/of/this/folder")
tokenizer = AutoTokenizer.from_pretrained("path/of/this/folder")
```

or with its task head, as it was scored: `load_student` (VCR) or `load_classifier` (VQA, SNLI-VE) of
`tasks.students.loading`.

Its licence is that of the student it started from and of the data. All settings are in the run's results.json.
"""
    write_atomically(folder / "README.md", text)
