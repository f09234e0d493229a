"""From a VCR token list to text: names for persons, class words for other objects, sane spacing.

A VCR token is a string or a list of indices into the item's `objects`. The student reads a gender-neutral
name for every person, the same one for the same person within an item; the teacher, who knows no names, reads
the class word.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cliptd.targeted.words import WordedText

Tokens = Sequence[str | list[int]]

PERSON_NAMES = tuple(
    [
        "Casey",
        "Riley",
        "Jessie",
        "Jackie",
        "Avery",
        "Jaime",
        "Peyton",
        "Kerry",
        "Jody",
        "Kendall",
        "Skyler",
        "Frankie",
        "Pat",
        "Quinn",
    ]
)

# VCR writes the 80 COCO classes without spaces; the text a model reads has them.
VCR_CLASSES = {
    name.replace(" ", ""): name
    for name in [
        "person",
        "bicycle",
        "car",
        "motorcycle",
        "airplane",
        "bus",
        "train",
        "truck",
        "boat",
        "traffic light",
        "fire hydrant",
        "stop sign",
        "parking meter",
        "bench",
        "bird",
        "cat",
        "dog",
        "horse",
        "sheep",
        "cow",
        "elephant",
        "bear",
        "zebra",
        "giraffe",
        "backpack",
        "umbrella",
        "handbag",
        "tie",
        "suitcase",
        "frisbee",
        "skis",
        "snowboard",
        "sports ball",
        "kite",
        "baseball bat",
        "baseball glove",
        "skateboard",
        "surfboard",
        "tennis racket",
        "bottle",
        "wine glass",
        "cup",
        "fork",
        "knife",
        "spoon",
        "bowl",
        "banana",
        "apple",
        "sandwich",
        "orange",
        "broccoli",
        "carrot",
        "hot dog",
        "pizza",
        "donut",
        "cake",
        "chair",
        "couch",
        "potted plant",
        "bed",
        "dining table",
        "toilet",
        "tv",
        "laptop",
        "mouse",
        "remote",
        "keyboard",
        "cell phone",
        "microwave",
        "oven",
        "toaster",
        "sink",
        "refrigerator",
        "book",
        "clock",
        "vase",
        "scissors",
        "teddy bear",
        "hair drier",
        "toothbrush",
    ]
}

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CLITICS = {"s", "t", "re", "ve", "ll", "d", "m"}
_CLITIC_TOKEN = re.compile(r"^(?:n['’]t|['’](?:s|t|re|ve|ll|d|m))$", re.IGNORECASE)
_NO_SPACE_BEFORE = set(",.?!;:)]}%…") | {"..", "..."}
_NO_SPACE_AFTER = set("([{$#")
_JOINING = {"-", "/"}


@dataclass(frozen=True)
class RenderedText:
    """A `WordedText` and, for each of its words, the index of the object it stands for (-1: an ordinary
    word)."""

    worded: "WordedText"
    word_objects: tuple[int, ...]


def class_word(label: str) -> str:
    """The readable word of an object label: VCR's `"wineglass"` is "wine glass"; a label of other data stays.

    >>> class_word("wineglass"), class_word("umbrella")
    ('wine glass', 'umbrella')
    """
    return VCR_CLASSES.get(label, label)


def mentioned_objects(*texts: Tokens) -> list[int]:
    """Sorted distinct object indices that the token lists mention.

    >>> mentioned_objects(["Is", [2], "near", [0, 2], "?"])
    [0, 2]
    """
    return sorted(
        {index for text in texts for token in text if not isinstance(token, str) for index in token}
    )


def person_names(
    objects: Sequence[str], mention_groups: Iterable[Tokens], *, annot_id: str = "", seed: int | None = None
) -> dict[int, str]:
    """A name for each mentioned person of an item, by object index.

    objects: labels of the item's objects.
    mention_groups: lists of token lists in order of precedence; persons of a later group are named after
        those of the earlier ones (question and answers before rationales, so that Q→A inputs never depend on
        the rationales).
    annot_id, seed: with a seed, the order of the names is a hash of seed and annot_id instead of
    `PERSON_NAMES`' own. More persons than names: names repeat from the start.

    >>> person_names(["person", "car", "person"], [[["Is", [2], "fast", "?"]], [["Yes", [0]]]])
    {2: 'Casey', 0: 'Riley'}
    """
    names = list(PERSON_NAMES)
    if seed is not None:
        names.sort(key=lambda name: hashlib.sha256(f"{seed}:{annot_id}:{name}".encode()).hexdigest())
    order = []
    for group in mention_groups:
        order += [i for i in mentioned_objects(*group) if objects[i] == "person" and i not in order]
    return {index: names[rank % len(names)] for rank, index in enumerate(order)}


def render(
    tokens: Tokens,
    objects: Sequence[str],
    names: dict[int, str],
    *,
    teacher_persons: Literal["class", "names"] = "class",
) -> RenderedText:
    """Text of a token list for student and teacher, with aligned words.

    tokens: strings and lists of indices into `objects`; several indices are joined with "and".
    names: object index → person's name (`person_names`); objects without one read as their class word.
    teacher_persons: what the teacher reads for a person, "class" ("person") or "names" (as the student).

    >>> tokens = [[0, 1], "'s", "dog", "is", "n't", "happy", "."]
    >>> text = render(tokens, ["person", "person"], {0: "Casey", 1: "Riley"})
    >>> text.worded.text, text.worded.teacher_text
    ("Casey and Riley's dog isn't happy.", "person and person's dog isn't happy.")
    >>> text.worded.words
    ('person', 'and', 'person', 'dog', "isn't", 'happy')
    >>> text.word_objects
    (0, -1, 1, -1, -1, -1)
    """
    from cliptd.targeted.words import WordedText  # here, so that reading annotations does without torch

    if teacher_persons not in ("class", "names"):
        raise ValueError(f"teacher_persons is {teacher_persons!r}; choose 'class' or 'names'")
    student, teacher, start = "", "", 0
    words, spans, word_objects = [], [], []

    def collect_plain_words(end: int) -> None:
        for match in _WORD.finditer(student, start, end):
            follows_tag = match.start() == start + 1 and start > 0 and student[start] in "'’"
            if not (follows_tag and match.group().lower() in _CLITICS):
                words.append(match.group())
                spans.append(match.span())
                word_objects.append(-1)

    for token, space in zip(tokens, _spaces(tokens), strict=True):
        student, teacher = student + space, teacher + space
        if isinstance(token, str):
            student, teacher = student + token, teacher + token
            continue
        for rank, index in enumerate(token):
            joint = " and " if rank else ""
            student, teacher = student + joint, teacher + joint
            collect_plain_words(len(student))
            label = class_word(objects[index])
            name = names.get(index, label)
            teacher_word = label if teacher_persons == "class" else name
            spans.append((len(student), len(student) + len(name)))
            words.append(teacher_word)
            word_objects.append(index)
            student, teacher = student + name, teacher + teacher_word
            start = len(student)
    collect_plain_words(len(student))
    return RenderedText(WordedText(student, tuple(words), tuple(spans), teacher), tuple(word_objects))


def join(first: RenderedText, second: RenderedText) -> RenderedText:
    """Two texts one after the other, with a space between them."""
    from cliptd.targeted.words import WordedText

    a, b = first.worded, second.worded
    shift = len(a.text) + 1
    worded = WordedText(
        text=f"{a.text} {b.text}",
        words=a.words + b.words,
        spans=a.spans + tuple((start + shift, end + shift) for start, end in b.spans),
        teacher_text=f"{a.teacher_text} {b.teacher_text}",
    )
    return RenderedText(worded, first.word_objects + second.word_objects)


def _spaces(tokens: Tokens) -> list[str]:
    """What stands before each token: "" or " "."""
    spaces, open_quotes, glue = [], set(), True  # glue: the next token sticks to what stands before it
    for position, token in enumerate(tokens):
        before, after = not glue, False
        if isinstance(token, str):
            following = tokens[position + 1] if position + 1 < len(tokens) else None
            clitic = token in ("'", "’") and isinstance(following, str) and following.lower() in _CLITICS
            if clitic and not glue:
                before, after = False, True
            elif token in ('"', "'", "’"):
                if token in open_quotes:  # a closing quote sticks to what it closes
                    open_quotes.discard(token)
                    before = False
                else:
                    open_quotes.add(token)
                    after = True
            elif token in _NO_SPACE_BEFORE or _CLITIC_TOKEN.match(token):
                before = False
            elif token in _JOINING:
                before, after = False, True
            elif token in _NO_SPACE_AFTER:
                after = True
        spaces.append(" " if before else "")
        glue = after
    return spaces
