"""Draw the README's picture: the words and boxes that are selected on a scene, and the low-shot curves on VCR.

The selection runs here, with the shipped teacher, on a question of the embedded benchmark. The curves are figures that
study_iconworld.py measured; docs/results/low_shot.csv holds them.

    python scripts/studies/readme_figure.py
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from PIL import Image

from cliptd.store.live import LiveSource
from cliptd.targeted.collator import DistillationCollator
from cliptd.targeted.relevance import visual_relevance
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from tasks.finetuning.training_material import TrainingMaterial
from tasks.iconworld.defaults import on_iconworld, vcr_root, vcr_settings, with_data
from tasks.iconworld.files.vcr import VcrSizes
from tasks.vcr.task import VcrTask

DOCS = Path(__file__).parents[2] / "docs"
LINES = {"none": ("#777777", "o"), "naive": ("#2f6fb0", "s"), "targeted": ("#c0392b", "D")}
"""Methods to draw, with their colours and markers."""
MARKS = ("#c0392b", "#1f8a4c", "#8e44ad", "#d68910")
"""The colours of selected words and their boxes."""


@dataclass(kw_only=True)
class ReadmeFigure:
    """What is drawn."""

    item: int = 8
    """Which of the benchmark's labelled questions."""
    scenes: int = 100
    """Scenes that are drawn to choose the question from. Their mean image is what relevance is relative to."""
    figures: Path = DOCS / "results" / "low_shot.csv"
    """The measured figures."""
    out: Path = DOCS / "assets" / "selection_and_curves.png"
    """The picture."""


@dataclass(frozen=True)
class Selected:
    """A question, its right answer, and which words of the answer are kept."""

    image: Image.Image
    question: str
    words: list[str]
    boxes: dict[int, Any]
    """By the index of a kept word: the box in which the teacher sees it best, x1 y1 x2 y2 in pixels."""


def main(asked: ReadmeFigure) -> None:
    found = select(asked.item, asked.scenes)
    with asked.figures.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["task"], row["test_set"]) == ("vcr", "val")]
    figure, (scene, curves) = pyplot.subplots(1, 2, figsize=(9.6, 3.9), width_ratios=(1, 1.25))
    figure.subplots_adjust(left=0.04, right=0.98, top=0.92, bottom=0.13, wspace=0.12)
    draw_scene(scene, found)
    draw_curves(curves, rows)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.out, dpi=110)
    print(f"Picture: {asked.out.resolve()}")


def select(item: int, scenes: int) -> Selected:
    """Ask the shipped teacher which words of a question's right answer it would distil, and where it sees them."""
    sizes = VcrSizes(train=scenes, val=10, val_shifted=10, test=4)
    settings = with_data(vcr_settings(), items=scenes // 2, validation_items=scenes // 5)
    settings = on_iconworld(settings, vcr_root(sizes=sizes))
    settings.test_sets = ()
    task = VcrTask(settings, make_accelerator(settings.training, settings.run_dir))
    config = settings.method_config("selected")
    teacher = load_teacher(settings.teacher)
    calibration = TrainingMaterial(settings, task).questions.calibration_images()
    source = LiveSource(teacher, calibration=calibration)
    examples = [example for example in task.training_set if example.task == "q_to_a"]
    example = examples[item]
    inputs = task.collate.distillation_inputs([example])
    collator = DistillationCollator(None, source, config)
    images = source.image_embeds(inputs.image_keys, inputs.images)
    regions = collator.region_embeds(inputs, source.embed_dim)
    assert regions is not None  # VCR has boxes
    pairs = [
        (inputs.image_keys[0], text, tuple(words))
        for text, words in zip(inputs.texts[0], inputs.words[0], strict=True)
    ]
    view = collator.views(pairs, images, regions)[example.label]
    text = task.collate.texts([example])[0]
    words = list(pairs[example.label][2])
    seen = visual_relevance(
        source.text_embeds([collator.views.prompt(words[k]) for k in view.kept]),
        regions[0],
        source.image_mean(),
    )
    best = torch.as_tensor(seen).argmax(0).tolist()
    boxes = {k: example.boxes[region] for k, region in zip(view.kept, best, strict=True)}
    question = " ".join(t if isinstance(t, str) else "person" for t in example.item.question)
    assert text.words[example.label] == words
    own = len(inputs.texts[0][example.label].split())
    return Selected(
        example.image(), question, words[-own:], {k - len(words) + own: b for k, b in boxes.items()}
    )


def draw_scene(axes: Axes, found: Selected) -> None:
    """Draw the scene, a box in the colour of each kept word, and the texts below."""
    side = found.image.width
    axes.imshow(found.image, interpolation="nearest")
    colours = dict(zip(found.boxes, MARKS, strict=False))
    for n, (k, box) in enumerate(found.boxes.items()):
        x1, y1, x2, y2 = (float(value) for value in box)
        grow = 0.6 + 0.9 * n  # two words may be seen in one box
        axes.add_patch(
            Rectangle(
                (x1 - 0.5 - grow, y1 - 0.5 - grow), x2 - x1 + 2 * grow, y2 - y1 + 2 * grow,
                fill=False, edgecolor=colours[k], linewidth=2.4,
            )
        )  # fmt: skip
    axes.set_xlim(-2.5, side + 1.5)
    axes.set_ylim(side + 16, -2.5)
    axes.axis("off")
    axes.text(0, side + 5, found.question, fontsize=10, color="#444444")
    axes.figure.canvas.draw()  # now pixels are known
    x = 0.0
    for k, word in enumerate(found.words):
        style = {"color": colours[k], "weight": "bold"} if k in colours else {"color": "#999999"}
        extent = axes.text(x, side + 12, word, fontsize=11, **style).get_window_extent()
        x = axes.transData.inverted().transform((extent.x1, extent.y0))[0] + 1.5
    axes.set_title("words that are distilled, and where the teacher sees them", fontsize=10)


def draw_curves(axes: Axes, rows: list[dict[str, str]]) -> None:
    """Draw accuracy over the number of labels, a line for each method."""
    for method, (colour, marker) in LINES.items():
        own = [row for row in rows if row["method"] == method]
        axes.errorbar(
            [int(row["labelled"]) for row in own], [float(row["mean"]) for row in own],
            yerr=[float(row["sd"]) for row in own], color=colour, marker=marker, capsize=3, label=method,
        )  # fmt: skip
    axes.set_xticks(sorted({int(row["labelled"]) for row in rows}))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("labelled items")
    axes.set_ylim(0, 100)
    axes.set_title("VCR on iconworld: Q→AR in percent, five seeds", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main(tyro.cli(ReadmeFigure, description=__doc__))
