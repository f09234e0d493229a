"""The model card of a student: README.md for people and the Hugging Face Hub, card.json for programs."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import EvalResult, ModelCardData

from cliptd.embedding.student import Student
from cliptd.utils.files import write_atomically
from cliptd.utils.tables import Row, markdown_table
from cliptd.utils.versions import library_versions

TASK = "zero-shot-image-classification"
METRICS = {
    "top1": ("accuracy", "top-1 accuracy"),
    "top5": ("top_5_accuracy", "top-5 accuracy"),
    "mean_per_class": ("mean_per_class_accuracy", "mean accuracy of the classes"),
}
"""The Hub's name and a full name for each score of `cliptd.evaluation.zero_shot`, in percent."""
MADE_FROM = re.compile(r"(?:(?:image|text|[\d.]+) of )*")
"""The beginnings that this library gives to the names of students: "0.5 of ViT-B-32"."""
HUB_DATA = re.compile(r"[\w-]+(?:/[\w.-]+)?")
"""A data set's name as the Hub takes it."""

LOADING = """\
import open_clip
import torch
from PIL import Image

name = "local-dir:."  # this folder; on the Hub "hf-hub:OWNER/NAME"
model, preprocess = open_clip.create_model_from_pretrained(name)
tokenizer = open_clip.get_tokenizer(name)
model.eval()

image = preprocess(Image.new("RGB", (640, 480), "gray")).unsqueeze(0)  # yours: Image.open("photo.jpg")
texts = tokenizer(["a photo of a dog", "a photo of a cat"], context_length=model.context_length)
with torch.no_grad():
    image_embeds = model.encode_image(image, normalize=True)
    text_embeds = model.encode_text(texts, normalize=True)
    logits = model.logit_scale.exp() * image_embeds @ text_embeds.T{bias}
print(logits.{probability})  # the probability of each text
"""


def write_model_card(
    folder: Path,
    student: Student,
    *,
    name: str,
    starts_from: str,
    teachers: Sequence[str],
    losses: Sequence[str],
    data: Sequence[str],
    training: str,
    scores: Sequence[Row],
    scored_on: str | None,
    settings: Mapping[str, Any],
    license_id: str = "unknown",
) -> None:
    """Write README.md and card.json beside a student's weights.

    README.md names folders and files without the folders they lie in. card.json keeps the settings as they are.

    Args:
        folder: where `Student.save` wrote the student.
        name: the title; what `public_name` would cut is cut.
        starts_from: the weights that training began with, such as "fresh weights" or a model's name.
        teachers: the names of the teachers (`Teacher.name`, each member of an ensemble); none: only labels or
            pairs taught the student.
        losses: the names of the losses.
        data: the names or paths of the training data.
        training: how long it took, such as "300 steps of 64 examples".
        scores: one row for each model, with "model" and scores in percent; the student's is the last.
        scored_on: the data of the scores; None: there were none.
        settings: all settings of the run.
        license_id: the Hub's identifier of a licence, such as "apache-2.0".
    """
    paths = [one for one in (*teachers, student.name) if os.sep in one]

    def public(text: str) -> str:
        for path in sorted(paths, key=len, reverse=True):
            text = text.replace(path, public_name(path))
        return public_name(text)

    rows = [{key: public(value) if key == "model" else value for key, value in row.items()} for row in scores]
    title, data, evaluated = (
        public(name),
        [public_name(one) for one in data],
        scored_on and public_name(scored_on),
    )
    head = ModelCardData(
        model_name=title,
        library_name="open_clip",
        pipeline_tag=TASK,
        tags=["siglip" if _is_sigmoid(student) else "clip", "knowledge-distillation", "cliptd"],
        license=license_id,
        base_model=[found for one in teachers if (found := _hub_id(one)) is not None] or None,
        datasets=[one for one in data if HUB_DATA.fullmatch(one)] or None,
        metrics=list(dict.fromkeys(METRICS[score][0] for score, _ in _scores(rows))) or None,
        eval_results=_results(rows, evaluated) if evaluated else None,
    )
    made = "Trained by cliptd"
    if teachers:
        made = f"Distilled by cliptd from {' and '.join(public_name(one) for one in teachers)}"
    where = f" on {evaluated}" if evaluated else ""
    parts = [
        f"---\n{head.to_yaml()}\n---",
        f"# {title}",
        "An image tower and a text tower with one embedding space, as an ordinary `open_clip` model. "
        f"{made} ({', '.join(losses)}) on {' and '.join(data)}: {training}.",
        f"- Training began with {public(starts_from)}.\n"
        f"- {student.parameters:,} parameters; embeddings have {student.embed_dim} dimensions.",
        f"## Use\n\nIn the folder of this file, with `pip install open_clip_torch`:\n\n"
        f"```python\n{_loading(student)}```",
        *([f"## Results\n\nZero-shot{where}, in percent:\n\n{markdown_table(rows)}"] if rows else []),
        f"## Licence and limits\n\n{_licence(license_id, bool(teachers))}",
        "All settings and the versions of the libraries are in card.json.",
    ]
    card = {
        "name": title,
        "settings": dict(settings),
        "parameters": student.parameters,
        "zero_shot_percent": list(scores),
        "versions": library_versions(),
    }
    write_atomically(folder / "card.json", json.dumps(card, indent=2, default=str) + "\n")
    write_atomically(folder / "README.md", "\n\n".join(parts) + "\n")


def public_name(name: str) -> str:
    """Return a model's id or a data set's name as it is, and only the last part of a path.

    Of a pattern such as shards/*.tar the folder's name stays, which says more than the pattern.

    >>> public_name("hf:openai/clip-vit-base-patch32"), public_name("0.5 of /home/me/models/teacher")
    ('hf:openai/clip-vit-base-patch32', '0.5 of teacher')
    >>> public_name("/data/cc12m/{000..099}.tar")
    'cc12m/{000..099}.tar'
    """
    made = MADE_FROM.match(name)
    begins = made.group() if made else ""
    place = name[len(begins) :].removeprefix("local-dir:")
    path = Path(place.removeprefix("hf:")).expanduser()
    is_pattern = any(character in path.name for character in "*?[{")
    if not (is_pattern or path.is_absolute() or path.exists() or path.parts[:1] in ((".",), ("..",))):
        return begins + place
    path = path.absolute()
    return begins + ("/".join(path.parts[-2:]) if is_pattern else path.name)


def _is_sigmoid(student: Student) -> bool:
    return student.model.logit_bias is not None


def _loading(student: Student) -> str:
    sigmoid = _is_sigmoid(student)
    return LOADING.format(
        bias=" + model.logit_bias" if sigmoid else "",
        probability="sigmoid()" if sigmoid else "softmax(dim=-1)",
    )


def _licence(license_id: str, taught: bool) -> str:
    sources = "the teachers and the data" if taught else "the data"
    said = f"The licence is {license_id}."
    if license_id == "unknown":
        said = f"Nobody has chosen a licence yet. Check the terms of {sources} before you share the weights."
    return f"{said} Errors and biases of {sources} carry over to this model."


def _hub_id(teacher: str) -> str | None:
    """Return the id on the Hub of a teacher that was loaded from there or by open_clip's name and tag."""
    for prefix in ("hf-hub:", "hf:"):
        if teacher.startswith(prefix):
            found = teacher.removeprefix(prefix)
            return found if public_name(teacher) == teacher else None
    architecture, _, tag = teacher.partition(", ")
    return str(open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", "")).strip("/") or None


def _scores(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return (score, part of the data) for each score of the student with a name on the Hub."""
    found = [name.partition(", ") for name, value in (rows[-1] if rows else {}).items() if value is not None]
    return [(score, part) for score, _, part in found if score in METRICS]


def _results(rows: Sequence[Row], data: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=data,
            dataset_name=f"{data}, {part}" if part else data,
            dataset_config=part or None,  # the Hub would merge results of one type and config
            metric_type=METRICS[score][0],
            metric_name=f"zero-shot {METRICS[score][1]} in percent",
            metric_value=rows[-1][f"{score}, {part}" if part else score],
        )
        for score, part in _scores(rows)
    ]
