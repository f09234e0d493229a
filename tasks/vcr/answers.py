"""A student's choices as people read them, from the predictions of an evaluation."""

from pathlib import Path
from typing import Literal

from PIL import Image

from cliptd.data.files.jsonl import JsonLines
from tasks.batches.answered import Answered, evenly_spaced
from tasks.vcr.data import VcrDataset, VcrExample
from tasks.vcr.marks import colours_of, outline
from tasks.vcr.names import render


def read_answers(
    dataset: VcrDataset, predictions: Path, subtask: Literal["q_to_a", "qa_to_r"], *, most: int
) -> list[Answered]:
    """Return items with the student's choices, evenly spaced in the set if it has more than `most`.

    Args:
        predictions: the file that `tasks.vcr.predict.evaluate` wrote for the set.
    """
    lines = JsonLines(predictions)
    chosen = []
    for position in evenly_spaced(dataset.num_items, most):
        example = dataset.example(position, subtask)
        scores = lines[position]["answers" if subtask == "q_to_a" else "rationales"]
        given = max(range(len(scores)), key=scores.__getitem__)
        right = example.label
        assert right is not None  # an evaluation scores labelled items only
        chosen.append(
            Answered(
                image=_Outlined(example),
                question=" ".join(_text(example, tokens) for tokens in example.context),
                right=_text(example, example.choices[right]),
                given=_text(example, example.choices[given]),
                is_right=given == right,
            )
        )
    return chosen


class _Outlined:
    """Opens the image of an example, with the objects outlined that its texts name."""

    def __init__(self, example: VcrExample) -> None:
        self.example = example

    def __call__(self) -> Image.Image:
        example = self.example
        return outline(example.image(), example.boxes, colours_of(example.mentioned, example.item.names))


def _text(example: VcrExample, tokens: list) -> str:
    return render(tokens, example.item.objects, example.item.names).worded.text
