"""A page that shows what selection and confidence weights do: images, answers, words by score, probabilities."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from cliptd.targeted.collator import DistillationCollator
from cliptd.targeted.inputs import DistillationInputs
from cliptd.targeted.shapes import WHOLE_TEXT_COLUMN
from cliptd.targeted.teacher_view import TeacherView, WordScores
from cliptd.targeted.weighting import confidence_weights, teacher_probability
from tasks import page

SIDE = 256
"""Pixels of the longer side of an image on the page."""


@dataclass(frozen=True)
class Inspected:
    """The selection and the weights of B instances with C texts each.

    Attributes:
        inputs: what the teacher was asked.
        views, scores: of the B * C texts, in order.
        teacher, student: (B,) probabilities of the right answer; None if no student was asked.
        weights: (B,) instance weights, relative to these instances.
    """

    inputs: DistillationInputs
    views: list[TeacherView]
    scores: WordScores
    teacher: Tensor
    student: Tensor | None
    weights: Tensor


def inspect_batch(
    collator: DistillationCollator,
    inputs: DistillationInputs,
    *,
    labels: Tensor | None = None,
    student: Tensor | None = None,
) -> Inspected:
    """Return what the collator's source and settings make of a batch.

    Args:
        labels: (B,) right candidates, if C > 1.
        student: (B,) the student's probability of the right answer.
    """
    config, views = collator.config, collator.views
    columns = collator.columns(inputs)
    pairs = [
        (key, text, tuple(words))
        for key, texts, word_lists in zip(inputs.image_keys, inputs.texts, inputs.words, strict=True)
        for text, words in zip(texts, word_lists, strict=True)
    ]
    images = columns["teacher_image_embeds"]
    regions = collator.region_embeds(inputs, images.shape[1])
    repeated = images.repeat_interleave(inputs.candidates, dim=0)
    per_text = None if regions is None else [own for own in regions for _ in range(inputs.candidates)]
    teacher = teacher_probability(
        columns["teacher_match"],
        images,
        columns.get(WHOLE_TEXT_COLUMN, columns["teacher_text_embeds"]),
        labels=labels if inputs.candidates > 1 else None,
        rivals=columns.get("teacher_rival_match"),
        logit_scale=collator.source.logit_scale,
        sigmoid=collator.source.logit_bias is not None,
        over=config.confidence_over,
    )
    mode = "teacher" if config.confidence == "ratio" and student is None else config.confidence
    weights = confidence_weights(
        teacher,
        student,
        mode=mode,
        max_ratio=config.confidence_max_ratio,
        temperature=config.confidence_temperature,
        eps=config.confidence_eps,
        normalise=config.normalise_weights,
    )
    found = views(pairs, images, regions)
    return Inspected(inputs, found, views.word_scores(pairs, repeated, per_text), teacher, student, weights)


def answer_lines(logits: Tensor, labels: Tensor, names: Sequence[str], *, trained: bool) -> list[str]:
    """Return a line an instance: the right answer and, if the student is trained, the student's.

    Args:
        logits: (B, C) of the student.
        labels: (B,) right classes, or (B, C) soft labels.
        names: of the C classes or candidates.
    """
    right = (labels.argmax(1) if labels.ndim == 2 else labels).tolist()
    lines = [f"Right answer: {names[number]}." for number in right]
    if not trained:
        return lines
    given = logits.argmax(1).tolist()
    return [
        f"{line} The student says {names[own]}{', which is right' if own == best else ''}."
        for line, own, best in zip(lines, given, right, strict=True)
    ]


def selection_page(
    inspected: Inspected,
    images: Sequence[Image.Image],
    *,
    title: str,
    about: Sequence[str],
    labels: Sequence[int | None],
    answers: Sequence[str],
) -> str:
    """Return the HTML page.

    Args:
        images: of the B instances.
        about: sentences below the title: method, teacher, student.
        labels: the right candidate of each instance, None if it has only one.
        answers: from `answer_lines`, one an instance.
    """
    parts = [page.paragraph(sentence) for sentence in (*about, _LEGEND)]
    candidates = inspected.inputs.candidates
    for b, image in enumerate(images):
        numbers = [f"weight {inspected.weights[b]:.2f}", f"teacher {100 * inspected.teacher[b]:.0f} %"]
        if inspected.student is not None:
            numbers.append(f"student {100 * inspected.student[b]:.0f} %")
        shown = page.picture(page.png(_resized(image)), f"instance {b + 1}")
        parts.append(f"<section>{shown}<div><p class=answer>{html.escape(answers[b])}</p>")
        parts.append(f"<p>{' · '.join(numbers)}</p>")
        for c in range(candidates):
            row = b * candidates + c
            right = " class=right" if labels[b] == c else ""
            match = f"{inspected.views[row].match:.1f}"
            words = inspected.inputs.words[b][c]
            parts.append(f"<p{right}>{_words(inspected, row, words)} <small>match {match}</small></p>")
        parts.append("</div></section>")
    return page.page(title, parts, style=_STYLE)


def _words(inspected: Inspected, row: int, words: Sequence[str]) -> str:
    scores, kept = inspected.scores, set(inspected.views[row].kept)
    shown = []
    for k, word in enumerate(words):
        named = {"visual": scores.visual, "semantic": scores.semantic, "combined": scores.combined}
        if not scores.mask[row, k]:
            shown.append(f"<i>{html.escape(word)}</i>")
            continue
        found = {name: float(value[row, k]) for name, value in named.items() if value is not None}
        tip = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        strength = min(1.0, found.get("combined", 0.0))
        tag = "b" if k in kept else "span"
        shown.append(
            f'<{tag} title="{tip}" style="background:rgba(255,170,0,{strength:.2f})">{html.escape(word)}</{tag}>'
            f"<sub>{found.get('combined', 0.0):.2f}</sub>"
        )
    return " ".join(shown)


def _resized(image: Image.Image) -> Image.Image:
    scale = SIDE / max(image.size)
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


_LEGEND = (
    "Bold, underlined words are kept and distilled. The number behind a word is its combined score, and hovering shows "
    "the visual and the semantic one. Words in italics are never kept. The right choice has a green bar. Match is the "
    "teacher's logit that image and text belong together. Teacher and student are their probabilities of the right "
    "answer. Weights are relative to the instances of this page."
)
_STYLE = (
    "section{display:flex;flex-wrap:wrap;gap:1.2em;margin:1.5em 0;border-top:1px solid #ddd;padding-top:1em}"
    "section>div{flex:1 1 16em}section>img{flex:0 0 auto;width:min(100%,16em);align-self:flex-start}"
    ".answer{font-weight:bold}section b{text-decoration:underline}section i{color:#777}"
    ".right{border-left:4px solid #2a2;padding-left:.5em}sub{color:#666}"
)
