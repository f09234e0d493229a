"""The card of a fine-tuned student: what it is, how it was made, how well it does, how to load it."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cliptd.adapter.teacher_input import TeacherInput
from cliptd.data.identity import wherever
from cliptd.targeted.config import Method
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import markdown_table
from cliptd.utils.versions import library_versions
from tasks.batches.collators import PatchCollator, RegionCollator
from tasks.iconworld.files.folder import is_iconworld
from tasks.settings import FinetuneSettings
from tasks.students.models import NativeStudent

FILE = "README.md"


def write_model_card(
    folder: Path,
    student: NativeStudent | TeacherInput,
    collate: PatchCollator | RegionCollator,
    settings: FinetuneSettings,
    method: Method,
    rows: list[dict[str, Any]],
) -> None:
    """Write `folder`/README.md, which the Hub reads as a model card. It names no path of this machine.

    Args:
        student: the trained student that the folder holds.
        collate: makes its batches.
        rows: the result rows of this method.
    """
    data, base = _data_name(settings), wherever(settings.student)
    name = f"{data}, {method}"
    shown = [
        {"test set": row["test_set"], **{title: row.get(key) for key, title in settings.metrics.items()}}
        for row in rows
    ]
    made = f"distilled from the teacher {wherever(settings.teacher)}"
    if not settings.method_config(method).distils:
        made = "trained without distillation"
    versions = ", ".join(f"{library} {version}" for library, version in library_versions().items())
    text = f"""---
{_head(settings, method, name, data, base, rows)}
---

# {name}

The student {base}, fine-tuned on {rows[0]["labelled"]} labelled items of {data} and {made} by cliptd.
{_needs(student, settings)}

## Scores

In percent, at the step that is best on validation ({rows[0]["best_step"]}), with seed {settings.seed}:

{markdown_table(shown)}

## Use

In a copy of this folder:

```python
{_loading(student, collate)}
```

{_inputs(collate, settings)}

## Data, settings, licence

Trained and scored on {data}. {settings.training.steps} steps of {settings.training.batch_size} examples, learning rate
{settings.training.lr:g}; all settings are in the run's results.json. Versions: {versions}.

The licence is that of the student it started from and of the data.
"""
    write_atomically(folder / FILE, text)


def _data_name(settings: FinetuneSettings) -> str:
    root = settings.data.data_root
    embedded = root is not None and is_iconworld(root)
    return f"iconworld's {settings.task}" if embedded else settings.task


def _head(
    settings: FinetuneSettings, method: Method, name: str, data: str, base: str, rows: list[dict[str, Any]]
) -> str:
    """Return the card's YAML."""
    dataset = data.lower().replace("'s ", "-")
    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=dataset,
            dataset_name=f"{data}, {row['test_set']}",
            dataset_split=row["test_set"],
            metric_type=key,
            metric_name=title,
            metric_value=round(row[key], 2),
        )
        for row in rows
        for key, title in settings.metrics.items()
        if row.get(key) is not None
    ]
    head = ModelCardData(
        library_name="transformers",
        license="other",
        license_name="as-of-the-base-model",
        base_model=base if "/" in base else None,
        datasets=[dataset],
        metrics=["accuracy"],
        tags=["cliptd", "vision-language", method],
        model_name=name,
        eval_results=results,
    )
    return head.to_yaml()


def _needs(student: NativeStudent | TeacherInput, settings: FinetuneSettings) -> str:
    if isinstance(student, TeacherInput):
        return f"It reads the image embedding of {wherever(settings.teacher)} as well (teacher_input.safetensors)."
    return "The teacher is not needed any more: this folder holds the student alone."


def _loading(student: NativeStudent | TeacherInput, collate: PatchCollator | RegionCollator) -> str:
    """Return the code that loads the student with the library that it came from."""
    native = type(student.native)
    home = "transformers" if native.__module__.startswith("transformers.") else native.__module__
    readers = ["AutoTokenizer", *(["AutoImageProcessor"] if isinstance(collate, PatchCollator) else [])]
    imports = [f"from transformers import {', '.join(sorted([*readers, native.__name__]))}"]
    if home != "transformers":
        imports = [
            f"from transformers import {', '.join(sorted(readers))}",
            f"from {home} import {native.__name__}",
        ]
    lines = [*imports, "", f'student = {native.__name__}.from_pretrained(".").eval()']
    lines.append('tokenizer = AutoTokenizer.from_pretrained(".")')
    if isinstance(collate, PatchCollator):
        lines.append('image_processor = AutoImageProcessor.from_pretrained(".")')
    return "\n".join(lines)


def _inputs(collate: PatchCollator | RegionCollator, settings: FinetuneSettings) -> str:
    """Say what the student reads, and how cliptd prepares it."""
    seen = "The student reads a text and the whole image."
    if isinstance(collate, RegionCollator):
        backbone = wherever(str(settings.regions).removeprefix("local-dir:"))
        seen = f"The student reads a text and features of the image's regions, of {backbone} ({settings.region_mode})."
    made = "In cliptd, `tasks.students.inputs` prepares these inputs and `tasks.students.loading` loads the student."
    return f"{seen}\n{made}"
