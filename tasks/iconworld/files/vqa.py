"""iconworld as VQA: questions about scenes with ten annotators' answers, in the official files of VQA v2 and VQA-CP.

As in the real data, some annotators err, and the answers of a question type follow a prior. In the VQA-CP files the
prior of the test questions is reversed (arXiv 1712.00377). The split "shifted2014" is drawn in families that the
student never saw.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tasks.batches.proposals import write_proposals
from tasks.iconworld.files.folder import PROPOSALS, write_once
from tasks.iconworld.glyphs import CONCEPTS, SEEN_FAMILIES, UNSEEN_FAMILIES
from tasks.iconworld.language import article
from tasks.iconworld.scenes import (
    COLOUR_NAMES,
    EMPTY,
    IMAGE_SIZE,
    PERSON_INDEX,
    Scenes,
    allowed_concepts,
    name_of,
    sample_scenes,
    save_images,
)

FORMAT = 1
"""Version of what is drawn and written. It goes up with every change, so that no old copy is taken for a new one."""
QUESTIONS_PER_SCENE = 3
AGREEMENT = 0.85
"""Share of the annotators that give the right answer."""
YES = 0.7
"""Share of yes among the right answers in the training prior. In the reversed prior it is that of no."""
SKEW = 3.0
"""Ratio of how often the first and the last colour or noun are asked for in the training prior."""
NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True)
class VqaSizes:
    """The number of questions in each file."""

    train: int = 6000
    """Number in the icon families that the student saw; also of VQA-CP's training file."""
    val: int = 3000
    """Number in the families that the student saw, with the training file's priors."""
    cp_test: int = 3000
    """Number in the families that the student saw, with the priors reversed."""
    shifted: int = 3000
    """Number in the families that the student never saw, with the training file's priors."""
    test: int = 400
    """Number without annotations, for the results file of a server."""


def write_vqa(folder: Path, *, seed: int = 0, sizes: VqaSizes | None = None) -> Path:
    """Write the official files, the images and the icons' boxes in proposals.jsonl to a folder.

    The same seed and font packages give the same files. A finished folder of the same seed and sizes stays as it is.
    """
    sizes = sizes or VqaSizes()
    description = {"task": "vqa", "format": FORMAT, "seed": seed, "sizes": asdict(sizes)}
    return write_once(folder, description, lambda: _write_files(folder, seed, sizes))


def _write_files(folder: Path, seed: int, sizes: VqaSizes) -> None:
    proposals: list[tuple] = []
    parts = (
        ("train", "train2014", SEEN_FAMILIES, False),
        ("val", "val2014", SEEN_FAMILIES, False),
        ("cp_test", "val2014", SEEN_FAMILIES, True),
        ("shifted", "shifted2014", UNSEEN_FAMILIES, False),
        ("test", "test2015", SEEN_FAMILIES, False),
    )
    for number, (name, images, families, turned) in enumerate(parts):
        rng = np.random.default_rng([seed, 1, number])
        questions, annotations = _write_split(
            folder, images, rng, getattr(sizes, name), families, turned, 1_000_000 * (number + 1), proposals
        )
        header = {"info": {"description": "iconworld"}, "task_type": "Open-Ended", "data_type": "mscoco"}
        header |= {"data_subtype": images, "license": {}}
        if name == "cp_test":
            _write_cp(folder, "test", questions, annotations, images)
            continue
        if name == "train":
            _write_cp(folder, "train", questions, annotations, images)
        _write(folder / f"v2_OpenEnded_mscoco_{images}_questions.json", {**header, "questions": questions})
        if name != "test":
            _write(folder / f"v2_mscoco_{images}_annotations.json", {**header, "annotations": annotations})
    write_proposals(folder / PROPOSALS, proposals)


def _write_cp(folder: Path, name: str, questions: list[dict], annotations: list[dict], images: str) -> None:
    for kind, items in (("questions", questions), ("annotations", annotations)):
        _write(folder / f"vqacp_v2_{name}_{kind}.json", [{**item, "coco_split": images} for item in items])


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _write_split(
    folder: Path,
    images: str,
    rng: np.random.Generator,
    count: int,
    families: tuple[str, ...],
    turned: bool,
    first_id: int,
    proposals: list[tuple],
) -> tuple[list[dict], list[dict]]:
    from tasks.vqa.data import image_name  # only here: the sizes are parsed without torch

    scenes = sample_scenes(rng, -(-count // QUESTIONS_PER_SCENE), families, objects=(2, 3), persons=(0, 1))
    names = [image_name(images, first_id + i) for i in range(len(scenes))]
    extents = save_images(scenes, [folder / images / name for name in names])
    proposals += [(name, (IMAGE_SIZE, IMAGE_SIZE), own) for name, own in zip(names, extents, strict=True)]
    questions: list[dict] = []
    annotations: list[dict] = []
    ask = Asking(rng, scenes, turned)
    for i in range(len(scenes)):
        image_id = first_id + i
        for _ in range(min(QUESTIONS_PER_SCENE, count - len(questions))):
            question_type, answer_type, text, answer, wrong = ask(i)
            question_id = 10 * image_id + len(questions) % QUESTIONS_PER_SCENE
            told = [
                answer if rng.random() < AGREEMENT else wrong[rng.integers(len(wrong))] for _ in range(10)
            ]
            told = [_as_people_write(rng, one) for one in told]
            ids = {"image_id": image_id, "question_id": question_id}
            questions.append({**ids, "question": text})
            annotations.append(
                {
                    **ids,
                    "question_type": question_type,
                    "answer_type": answer_type,
                    "multiple_choice_answer": answer,
                    "answers": [
                        {"answer": one, "answer_confidence": "yes", "answer_id": k + 1}
                        for k, one in enumerate(told)
                    ],
                }
            )
    order = rng.permutation(len(questions))
    return [questions[k] for k in order], [annotations[k] for k in order]


def _as_people_write(rng: np.random.Generator, answer: str) -> str:
    """Return the answer, sometimes with an article, a capital or a number in words, which the evaluator removes."""
    chance = rng.random()
    if answer.isdigit():
        return NUMBERS[int(answer)] if chance < 0.3 else answer
    if chance < 0.05:
        return answer.capitalize()
    return article(answer) if chance < 0.15 and answer in CONCEPTS else answer


class Asking:
    """A function that asks about a scene.

    It returns the question type, the answer type, the question, the right answer, and wrong answers that people give.

    Args:
        turned: reverse the priors of the answers.
    """

    def __init__(self, rng: np.random.Generator, scenes: Scenes, turned: bool) -> None:
        self.rng, self.scenes, self.turned = rng, scenes, turned
        self.colour_weights = self._weights(len(COLOUR_NAMES))
        self.noun_weights = self._weights(len(CONCEPTS) + 1)

    def _weights(self, count: int) -> np.ndarray:
        weights = SKEW ** np.linspace(1, 0, count)
        return weights[::-1] if self.turned else weights

    def __call__(self, i: int) -> tuple[str, str, str, str, list[str]]:
        """Return a question about scene `i`."""
        kinds = (self._is_there, self._is_coloured, self._what_colour, self._how_many, self._what_is)
        return kinds[self.rng.choice(5, p=(0.2, 0.15, 0.25, 0.15, 0.25))](i)

    def _things(self, i: int) -> np.ndarray:
        return np.flatnonzero((self.scenes.concept[i] != EMPTY) & (self.scenes.concept[i] != PERSON_INDEX))

    def _pick(self, cells: np.ndarray, weights: np.ndarray) -> int:
        return int(self.rng.choice(cells, p=weights / weights.sum()))

    def _says_yes(self) -> bool:
        return bool(self.rng.random() < (1 - YES if self.turned else YES))

    def _yes_or_no(self, yes: bool) -> tuple[str, list[str]]:
        return ("yes", ["no"]) if yes else ("no", ["yes"])

    def _is_there(self, i: int) -> tuple[str, str, str, str, list[str]]:
        rng, scenes = self.rng, self.scenes
        cell = int(rng.choice(self._things(i)))
        noun, colour = scenes.concept[i, cell], scenes.colour[i, cell]
        yes = self._says_yes()
        if not yes:  # another noun
            noun = rng.choice(np.setdiff1d(allowed_concepts(scenes.family[i]), scenes.concept[i]))
        words = name_of(noun) if rng.random() < 0.5 else f"{COLOUR_NAMES[colour]} {name_of(noun)}"
        answer, wrong = self._yes_or_no(yes)
        return (
            f"is there {article(words).split()[0]}",
            "yes/no",
            f"Is there {article(words)} in the picture?",
            answer,
            wrong,
        )

    def _is_coloured(self, i: int) -> tuple[str, str, str, str, list[str]]:
        rng, scenes = self.rng, self.scenes
        cell = int(rng.choice(self._things(i)))
        colour = scenes.colour[i, cell]
        yes = self._says_yes()
        if not yes:
            colour = rng.choice(np.setdiff1d(np.arange(len(COLOUR_NAMES)), [colour]))
        answer, wrong = self._yes_or_no(yes)
        text = f"Is the {name_of(scenes.concept[i, cell])} {COLOUR_NAMES[colour]}?"
        return "is the", "yes/no", text, answer, wrong

    def _what_colour(self, i: int) -> tuple[str, str, str, str, list[str]]:
        cells = self._things(i)
        cell = self._pick(cells, self.colour_weights[self.scenes.colour[i, cells]])
        answer = COLOUR_NAMES[self.scenes.colour[i, cell]]
        text = f"What color is the {name_of(self.scenes.concept[i, cell])}?"
        return "what color is the", "other", text, answer, [c for c in COLOUR_NAMES if c != answer]

    def _how_many(self, i: int) -> tuple[str, str, str, str, list[str]]:
        people = self.rng.random() < 0.4
        concept = self.scenes.concept[i]
        count = int((concept == PERSON_INDEX).sum()) if people else int((concept != EMPTY).sum())
        text = f"How many {'people' if people else 'things'} are in the picture?"
        return "how many", "number", text, str(count), [str(n) for n in (count - 1, count + 1) if 0 <= n < 5]

    def _what_is(self, i: int) -> tuple[str, str, str, str, list[str]]:
        cells = self._things(i)
        cell = self._pick(cells, self.noun_weights[self.scenes.concept[i, cells]])
        answer = name_of(self.scenes.concept[i, cell])
        others = [name_of(c) for c in self.scenes.concept[i, cells] if name_of(c) != answer]
        return "what is", "other", f"What is {COLOUR_NAMES[self.scenes.colour[i, cell]]}?", answer, others
