"""The settings of fine-tuning on VQA, as commands parse them from the command line."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from cliptd.data.identity import identity_of_files
from cliptd.training import TrainingConfig
from cliptd.utils.options import shown_default
from tasks.labelled_split import LowShotSplitWithProposals
from tasks.settings import FinetuneSettings
from tasks.vqa.vocabulary import MIN_OCCURRENCES, AnswerVocabulary, FrequentAnswers

if TYPE_CHECKING:  # imported when files are opened: a command line is parsed without datasets
    from tasks.vqa.data import VqaDataset


@dataclass(kw_only=True)
class VqaSplit(LowShotSplitWithProposals):
    """The data of an experiment on the official files of VQA v2 or VQA-CP v2 and COCO's images."""

    train_split: Literal["train", "cp_train"] = "train"
    """Train on VQA v2, or on VQA-CP v2, whose answers are distributed otherwise in cp_test (name it in --test-sets)."""
    answers: Annotated[Path | None, shown_default("the frequent ones of the training file")] = None
    """A JSON list of the answers to choose from. The default answers come from all items, labelled or not."""
    min_occurrences: int = MIN_OCCURRENCES
    """Number of questions whose most frequent answer must be an answer, so that it is one to choose from."""
    hold_out_question_types: Annotated[str | None, shown_default("none")] = None
    """Train without the question types that begin so ("how many"), and test on them, which shows a shift of the
    domain."""

    def training_files(self) -> list[Path]:
        from tasks.vqa.data import files_of_split

        questions, annotations, _ = files_of_split(self._checked_root(), self.train_split)
        return [path for path in (questions, annotations) if path is not None]

    def dataset(self, split: str, vocabulary: "AnswerVocabulary | None" = None) -> "VqaDataset":
        """Open one of `tasks.vqa.data.SPLITS`."""
        from tasks.vqa.data import VqaDataset

        return VqaDataset.from_root(
            self._checked_root(),
            split,
            vocabulary=vocabulary,
            on_bad_sample=self.on_bad_sample,
            proposals=self.proposed,
        )

    def in_domain(self, dataset: "VqaDataset") -> "VqaDataset":
        """Return the questions without the types that are held out."""
        return dataset.subset([k for k, held in enumerate(self._held_out(dataset)) if not held])

    def held_out_questions(self, dataset: "VqaDataset") -> "VqaDataset":
        """Return the questions of the types that are held out. Raises ValueError if there are none."""
        positions = [k for k, held in enumerate(self._held_out(dataset)) if held]
        if not positions:
            found = ", ".join(sorted(set(dataset.column("question_type")))[:20])
            raise ValueError(
                f"hold_out_question_types is {self.hold_out_question_types!r}, and no question type of {dataset.name} "
                f"begins so; it has {found}"
            )
        return dataset.subset(positions)

    def _checked_root(self) -> Path:
        if self.data_root is None:
            raise ValueError("data_root is None; give the folder of VQA's official files and images")
        return self.data_root

    def _held_out(self, dataset: "VqaDataset") -> list[bool]:
        if self.hold_out_question_types is None:
            return [False] * len(dataset)
        return [
            str(kind).startswith(self.hold_out_question_types) for kind in dataset.column("question_type")
        ]


def training_sets(split: VqaSplit, seed: int) -> "tuple[VqaDataset, VqaDataset, dict[str, Any]]":
    """Return the labelled training set, the validation set and the description of the split.

    No image is in both sets. See `LowShotSplit.draw`.
    """
    everything = split.dataset(split.train_split)
    if split.answers is not None:
        everything.vocabulary = AnswerVocabulary.load(split.answers)
    else:
        everything.vocabulary = AnswerVocabulary.build(
            everything.column("answer"), min_occurrences=split.min_occurrences
        )
    everything = split.in_domain(everything)
    everything.frequent_answers = FrequentAnswers(
        zip(everything.column("question_type"), everything.column("answer"), strict=True)
    )
    labelled, held_out, description = split.draw(
        everything.column("question_id"),
        everything.column("image_id"),
        everything.column("answer_type"),
        seed,
    )
    description |= {
        "training_files": identity_of_files(split.training_files()),
        "answers": len(everything.vocabulary),
        "bad_samples_left_out": everything.skipped,
    }
    return everything.subset(labelled), everything.subset(held_out), description


@dataclass(kw_only=True)
class FinetuneVqa(FinetuneSettings):
    """What to fine-tune on VQA, and how to distil."""

    task: ClassVar[str] = "VQA"

    data: tyro.conf.OmitArgPrefixes[VqaSplit] = field(default_factory=VqaSplit)
    """The data, and how much of it is labelled."""
    test_sets: tuple[str, ...] = ("val",)
    """Splits with annotations to score on: val, cp_test."""
    server_splits: Annotated[tuple[str, ...], shown_default("none")] = ()
    """Splits without annotations, test-dev and test. A results file for the evaluation server is written for each."""
    loss: Literal["bce", "ce"] = "bce"
    """"bce": binary cross-entropy of each answer's accuracy. "ce": cross-entropy of the softmax over the answers."""
    teacher_text: Literal["question_and_answer", "answer", "question"] = "question_and_answer"
    """Text that the teacher reads. The answer is the one that most annotators gave."""
    rival_answers: int = 8
    """Number of wrong answers that the teacher chooses among for the confidence weights. They are the most frequent
    ones of the question's type in the training file. 0: it chooses among the texts of the batch."""
    run_dir: Path = Path("runs/vqa")
    """Folder of everything that the run writes. The same command goes on there."""
    training: tyro.conf.OmitArgPrefixes[TrainingConfig] = field(
        default_factory=lambda: TrainingConfig(
            steps=2000, batch_size=64, lr=5e-5, warmup_steps=200, metric="overall"
        )
    )

    @property
    def metrics(self) -> dict[str, str]:
        """Return the names of the accuracy and of each answer type's accuracy."""
        return {"overall": "accuracy", "yes/no": "yes/no", "number": "number", "other": "other"}
