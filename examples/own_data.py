"""Fine-tune on questions and images of your own, with and without distillation.

    python examples/own_data.py

Runs offline in about a minute: it first makes a table and images as you might have them, then does what
`cliptd finetune_vqa --data-root my_vqa` does. The models are the embedded benchmark's.
"""

import csv
from pathlib import Path

from PIL import Image, ImageDraw

from cliptd.targeted.changes import DistillationChanges
from cliptd.training import TrainingConfig
from tasks.finetuning.run import run
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.known_tasks import TASKS
from tasks.vqa.convert import write_official
from tasks.vqa.settings import FinetuneVqa, VqaSplit

FOLDER = Path("runs/own_data")
COLOURS = ("red", "green", "blue", "orange")


def make_table(split: str, questions: int) -> Path:
    """Write SPLIT.csv (image, question, answer) and its images: a coloured square each."""
    images = FOLDER / "images"
    images.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "question", "answer"])
        for index in range(questions):
            colour = COLOURS[index % len(COLOURS)]
            image = Image.new("RGB", (96, 96), "white")
            ImageDraw.Draw(image).rectangle((10 + index % 30, 10, 50 + index % 30, 60), fill=colour)
            image.save(images / f"{split}-{index}.png")
            rows.writerow([f"{split}-{index}.png", "What color is this thing ?", colour])
    return FOLDER / f"{split}.csv"


def main() -> None:
    for split, questions in (("train", 120), ("val", 40)):
        with make_table(split, questions).open(encoding="utf-8") as file:
            write_official(list(csv.DictReader(file)), FOLDER / "images", FOLDER / "my_vqa", split)
    settings = FinetuneVqa(
        data=VqaSplit(data_root=FOLDER / "my_vqa", grid=2, min_occurrences=1),
        test_sets=("val",),
        student=str(STUDENT),
        regions=f"local-dir:{REGIONS}",
        teacher=str(TEACHER),
        methods=("none", "targeted"),
        distillation=DistillationChanges(distance="infonce"),
        run_dir=FOLDER / "run",
        training=TrainingConfig(steps=20, batch_size=16, lr=1e-3, eval_every=10, metric="overall"),
    )
    run(settings, TASKS["vqa"], arguments=["--data-root", str(FOLDER / "my_vqa")])


if __name__ == "__main__":
    main()
