"""Write an HTML page of a few training instances: image, words by score, what is kept, weights, probabilities.

What follows "--" are the task's own options, as of finetune_TASK.py; --student may name the folder of a trained one.
With --store the words are selected by its mean image, as in a run that reads it; else by a live teacher's.

    python scripts/inspect_selection.py --task vcr --out selection.html
    python scripts/inspect_selection.py --task vqa -- --data-root vqa --student runs/vqa/targeted/student
"""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from cliptd.adapter.student_outputs import student_probability
from cliptd.data.identity import wherever
from cliptd.store.live import LiveSource
from cliptd.store.reader import TeacherStore
from cliptd.targeted.collator import DistillationCollator
from cliptd.targeted.config import Method
from cliptd.teachers import load_teacher
from cliptd.training import make_accelerator
from cliptd.utils.files import write_atomically
from tasks.command_line import command
from tasks.finetuning.selection_page import answer_lines, inspect_batch, selection_page
from tasks.finetuning.teacher_source import document_frequency
from tasks.finetuning.training_material import TrainingMaterial
from tasks.known_tasks import TaskName, parse


@dataclass(kw_only=True)
class InspectSelection:
    """What to show."""

    task: TaskName
    """Which task; its own options follow after "--"."""
    out: Path = Path("selection.html")
    """The page."""
    method: Method = "targeted"
    """Method whose selection is shown."""
    instances: int = 12
    """The first ones of the labelled training set."""


@command
def main(arguments: list[str]) -> None:
    asked, known, base = parse(InspectSelection, __doc__, arguments)
    base = dataclasses.replace(base, test_sets=())
    accelerator = make_accelerator(base.training, base.run_dir)
    task = known.task_class(base, accelerator)
    config = base.method_config(asked.method)
    if not config.distils:
        raise SystemExit(f"method {asked.method!r} distils nothing; choose another method")
    if config.shuffle_teacher:
        raise SystemExit(
            "a shuffled teacher's words are those that the same method selects unshuffled, with another instance's "
            "embeddings; look at targeted"
        )
    if asked.method == "adapted_teacher":
        adapted = base.run_dir / asked.method / "teacher"
        if not (adapted / "adapted.json").is_file():
            raise SystemExit(
                f"{adapted} holds no adapted teacher; give the --run-dir of a run that adapted it"
            )
        teacher = load_teacher(str(adapted), device=accelerator.device)
    else:
        teacher = load_teacher(base.teacher, base.pretrained, device=accelerator.device)
    questions = TrainingMaterial(base, task).questions
    if base.store is not None:
        source = TeacherStore.open(base.store, teacher)
    else:
        source = LiveSource(teacher, calibration=questions.calibration_images())
    frequency = document_frequency(config, questions)
    collate = copy.copy(task.collate)
    collate.distillation = True
    examples = [task.training_set[k] for k in range(min(asked.instances, len(task.training_set)))]
    batch = collate(examples)
    inputs, labels = batch.pop("distillation_inputs"), batch.pop("labels")
    torch.manual_seed(base.seed)
    student = task.load_student().eval()
    with torch.no_grad():
        logits = student(**batch).logits
    inspected = inspect_batch(
        DistillationCollator(None, source, config, document_frequency=frequency),
        inputs,
        labels=labels if inputs.candidates > 1 else None,
        student=student_probability(logits, labels),
    )
    right = labels.tolist() if inputs.candidates > 1 else [None] * len(examples)
    trained = not student.fresh_parameters
    about = "trained" if trained else "its head untrained, so its probabilities say nothing"
    teacher_name, student_name = wherever(base.teacher), wherever(base.student)
    title = f"{base.task}, {asked.method}: teacher {teacher_name}, student {student_name} ({about})"
    named = student.config.id2label
    names = [f"candidate {c + 1}" if inputs.candidates > 1 else named[c] for c in range(logits.shape[1])]
    page = selection_page(
        inspected,
        [example.image() for example in examples],
        title=title,
        labels=right,
        answers=answer_lines(logits, labels, names, trained=trained),
    )
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(asked.out, page)
    print(f"Page: {asked.out.resolve()}")
    if not trained:
        print(
            "Next: the same command with --student RUN/METHOD/student after --, to see what a trained student says"
        )


if __name__ == "__main__":
    main()
