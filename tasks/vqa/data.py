"""VQA v2 and VQA-CP v2 as they are downloaded: a map-style, lazy dataset of questions.

A data root holds the official JSON files and the folders of images, or the images themselves:

    v2_OpenEnded_mscoco_train2014_questions.json   v2_mscoco_train2014_annotations.json   train2014/COCO_train2014_….jpg

The files are streamed once into a memory-mapped table; later starts take seconds and little memory.
"""

import sys
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import datasets
from torch import Tensor

from cliptd.data.files.json_objects import iterate_objects
from cliptd.data.files.tables import TableDataset, cached_table
from cliptd.data.images import ImageFile
from tasks.batches.proposals import GridProposals, Proposals, ProposedBoxes
from tasks.vqa.vocabulary import AnswerVocabulary, FrequentAnswers

SPLITS = {
    "train": (
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
        "train2014",
    ),
    "val": ("v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json", "val2014"),
    "test": ("v2_OpenEnded_mscoco_test2015_questions.json", None, "test2015"),
    "test-dev": ("v2_OpenEnded_mscoco_test-dev2015_questions.json", None, "test2015"),
    "cp_train": ("vqacp_v2_train_questions.json", "vqacp_v2_train_annotations.json", None),
    "cp_test": ("vqacp_v2_test_questions.json", "vqacp_v2_test_annotations.json", None),
}
"""Questions, annotations and the images' split; the items of VQA-CP name theirs themselves."""
TABLE_VERSION = 1
FEATURES = datasets.Features(
    {
        "question_id": datasets.Value("int64"),
        "image_id": datasets.Value("int64"),
        "image_split": datasets.Value("string"),
        "question": datasets.Value("string"),
        "question_type": datasets.Value("string"),
        "answer_type": datasets.Value("string"),
        "answer": datasets.Value("string"),
        "answers": datasets.List(datasets.Value("string")),
        "reason": datasets.Value("string"),
    }
)


@dataclass(frozen=True)
class VqaExample(ProposedBoxes):
    """A question about an image; what only annotations say is None in test files.

    answer: the most frequent answer. answers: the annotators', as written.
    """

    question_id: int
    image_key: str
    question: str
    question_type: str | None
    answer_type: str | None
    answer: str | None
    answers: tuple[str, ...] | None
    image: ImageFile = field(repr=False)
    proposals: Proposals = field(repr=False, compare=False)
    vocabulary: AnswerVocabulary | None = field(repr=False, compare=False)

    @property
    def label(self) -> Tensor | None:
        """(A,) soft labels over the data set's vocabulary, if both are there."""
        if self.vocabulary is None or self.answers is None:
            return None
        return self.vocabulary.target_matrix([self.answers])[0]


class VqaDataset(TableDataset):
    """Map-style dataset of `VqaExample`.

    questions, annotations: official JSON files, in the layout of VQA v2 or of VQA-CP; None: no annotations.
    images_root: folder that holds COCO_{split}_{image_id:012d}.jpg, or folders {split}/ of them.
    image_split: "train2014", …; None if the questions name theirs ("coco_split").
    vocabulary: the answers that a model chooses from, for the examples' soft labels.
    proposals: gives the boxes of an image; default none.
    indices: keep these questions only, in this order.
    on_bad_sample: "raise" at a bad question or annotation and at a question without annotation now, and at an image
        that is missing or corrupt when it is asked for; or "skip": look at all of them now, leave bad ones out, list
        them in `skipped` and warn with their number. Double ids, and annotations without question, are always an error.

    `frequent_answers` of a whole training file are on the parts that `tasks.vqa.settings.training_sets` makes of it.

    Raises ValueError and FileNotFoundError that name the file and the question, what was found, what was expected.
    """

    frequent_answers: FrequentAnswers | None = None

    def __init__(
        self,
        questions: str | Path,
        annotations: str | Path | None,
        images_root: str | Path,
        *,
        image_split: str | None = None,
        vocabulary: AnswerVocabulary | None = None,
        proposals: Proposals | None = None,
        indices: Sequence[int] | None = None,
        on_bad_sample: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.images_root, self.proposals = Path(images_root), proposals or GridProposals(0)
        self.vocabulary = vocabulary
        if not self.images_root.is_dir():
            raise FileNotFoundError(
                f"images_root {self.images_root} is not a folder; expected COCO's images or their folders"
            )
        table = cached_table(
            _rows, (questions, annotations), FEATURES, version=TABLE_VERSION, image_split=image_split
        )
        super().__init__(Path(questions), table, on_bad_sample=on_bad_sample)
        self.files = [path for path in (questions, annotations) if path is not None]
        self.keep(indices)

    @classmethod
    def from_root(cls, data_root: str | Path, split: str, **options: Any) -> "VqaDataset":
        """The dataset of one of `SPLITS`, or of the files of VQA v2 whose names hold `split`; options as for the
        class."""
        questions, annotations, image_split = files_of_split(Path(data_root), split)
        return cls(questions, annotations, Path(data_root), image_split=image_split, **options)

    def __getitem__(self, position: int) -> VqaExample:
        row = self.row(position)
        name = image_name(row["image_split"], row["image_id"])
        return VqaExample(
            row["question_id"],
            name,
            row["question"],
            row["question_type"],
            row["answer_type"],
            row["answer"],
            None if row["answers"] is None else tuple(row["answers"]),
            self._image(row["image_split"], name, f"{self.name}, question_id {row['question_id']}"),
            self.proposals,
            self.vocabulary,
        )

    def _image(self, image_split: str, name: str, where: str) -> ImageFile:
        folder = self.images_root / image_split
        folder = folder if folder.is_dir() else self.images_root
        return ImageFile(folder / name, where, f"unpack {image_split}.zip whole into {self.images_root}")


def files_of_split(root: Path, split: str) -> tuple[Path, Path | None, str | None]:
    """Return the questions, the annotations if it has any, and the images' split of one of `SPLITS`, or of the files of
    VQA v2 whose names hold `split`.

    Raises:
        FileNotFoundError: a file is missing.
    """
    questions, annotations, image_split = SPLITS.get(split) or (
        f"v2_OpenEnded_mscoco_{split}_questions.json",
        f"v2_mscoco_{split}_annotations.json",
        split,
    )
    for name in (questions, annotations):
        if name is not None and not (root / name).is_file():
            raise FileNotFoundError(
                f"{root / name} does not exist; the split {split!r} is made of {questions}"
                + (f" and {annotations}" if annotations else "")
                + f" (https://visualqa.org/download.html; splits by name: {', '.join(SPLITS)})"
            )
    return root / questions, None if annotations is None else root / annotations, image_split


def image_name(image_split: str, image_id: int) -> str:
    """COCO's name of an image.

    >>> image_name("val2014", 262148)
    'COCO_val2014_000000262148.jpg'
    """
    return f"COCO_{image_split}_{image_id:012d}.jpg"


def _rows(files: tuple[str, str | None], image_split: str | None) -> Iterator[dict[str, Any]]:
    questions, annotations = files
    annotated = None if annotations is None else _annotations(annotations)
    asked: set[int] = set()
    for where, question in iterate_objects(questions, "questions"):
        question_id = _new_id(question, where, asked)
        asked.add(question_id)
        row: dict[str, Any] = dict.fromkeys(FEATURES) | {"question_id": question_id}
        try:
            if annotated is not None:
                if question_id not in annotated:
                    raise ValueError(f"{where}: question_id {question_id} has no annotation in {annotations}")
                row |= annotated.pop(question_id)
            row |= _parse_question(question, where, image_split)
        except ValueError as error:
            row["reason"] = str(error)
        yield row
    if annotated:
        shown = ", ".join(map(str, list(annotated)[:5]))
        raise ValueError(
            f"{annotations}: {len(annotated)} annotations ({shown}, …) have no question in {questions}; give the "
            "questions of the same split"
        )


def _annotations(path: str) -> dict[int, dict[str, Any]]:
    """question_id → the columns that annotations fill, or what is wrong with them; equal texts are held once."""
    annotated: dict[int, dict[str, Any]] = {}
    for where, annotation in iterate_objects(path, "annotations"):
        question_id = _new_id(annotation, where, annotated)
        try:
            annotated[question_id] = _parse_annotation(annotation, where)
        except ValueError as error:
            annotated[question_id] = {"reason": str(error)}
    return annotated


def _new_id(found: dict[str, Any], where: str, known: Container[int]) -> int:
    question_id = _integer(found, "question_id", where)
    if question_id in known:
        raise ValueError(f"{where}: question_id {question_id} more than once in this file")
    return question_id


def _parse_question(question: dict[str, Any], where: str, image_split: str | None) -> dict[str, Any]:
    split = image_split or question.get("coco_split")
    if not isinstance(split, str):
        raise ValueError(f"{where}: coco_split is {split!r}, expected the images' split, such as 'train2014'")
    return {
        "image_id": _integer(question, "image_id", where),
        "image_split": split,
        "question": _text(question, "question", where),
    }


def _parse_annotation(annotation: dict[str, Any], where: str) -> dict[str, Any]:
    answers = annotation.get("answers")
    if not isinstance(answers, list) or not answers:
        raise ValueError(f"{where}: answers are {answers!r}, expected the annotators' answers")
    for answer in answers:
        if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
            raise ValueError(f'{where}: answers hold {answer!r}, expected {{"answer": a text, …}}')
    return {
        "question_type": _text(annotation, "question_type", where),
        "answer_type": _text(annotation, "answer_type", where),
        "answer": _text(annotation, "multiple_choice_answer", where, may_be_empty=True),
        "answers": tuple(sys.intern(answer["answer"]) for answer in answers),
    }


def _text(found: dict[str, Any], key: str, where: str, *, may_be_empty: bool = False) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise ValueError(f"{where}: {key} is {value!r}, expected a text")
    return sys.intern(value)


def _integer(found: dict[str, Any], key: str, where: str) -> int:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where}: {key} is {value!r}, expected a whole number")
    return value
