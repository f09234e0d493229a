"""Reinforced datasets (MobileCLIP, arXiv 2311.17049): pairs with drawn augmentations, synthetic captions and what
teachers made of each.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from cliptd.data.augmentation import Augmentation, AugmentationPolicy

CARD, BAD = "reinforcement.json", "bad_samples.txt"
FORMAT_VERSION = 2


class Reinforced(NamedTuple):
    """A pair and its reinforcement.

    image: call it for the whole picture. captions: synthetic ones, maybe none.
    image_embeds: (augmentations, Σ dims) of the augmented picture, text_embeds: (1 + captions, Σ dims) of the text and
        the captions; the teachers' unit-length embeddings, side by side.
    """

    key: str
    image: Callable[[], Image.Image]
    text: str
    captions: tuple[str, ...]
    augmentations: tuple[Augmentation, ...]
    image_embeds: np.ndarray
    text_embeds: np.ndarray


@dataclass(frozen=True)
class TeacherCard:
    """A teacher whose embeddings a reinforced dataset holds."""

    name: str
    fingerprint: str | None
    embed_dim: int
    logit_scale: float


@dataclass(frozen=True)
class ReinforcementCard:
    """What a reinforced dataset is made of.

    captioner: its name, None where there are no synthetic captions.
    """

    teachers: tuple[TeacherCard, ...]
    policy: AugmentationPolicy
    augmentations: int
    captions: int
    captioner: str | None = None

    @property
    def embed_dims(self) -> list[int]:
        """Widths of the teachers' embeddings, which lie side by side."""
        return [teacher.embed_dim for teacher in self.teachers]

    @property
    def logit_scales(self) -> list[float]:
        """Of the teachers."""
        return [teacher.logit_scale for teacher in self.teachers]

    def to_json(self) -> str:
        """What `read_card` reads."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1) + "\n"


DATACOMP_DR = ReinforcementCard(
    teachers=tuple(
        TeacherCard(f"ViT-L-14, {tag}", None, 768, 100.0) for tag in ("openai", "datacomp_xl_s13b_b90k")
    ),
    policy=AugmentationPolicy(),
    augmentations=30,
    captions=5,
    captioner="coca_ViT-L-14, mscoco_finetuned_laion2b_s13b_b90k",
)
"""Of the public DataCompDR-12M, which brings none; DataCompDR-1B has 10 augmentations and is else alike."""


def read_card(path: Path) -> ReinforcementCard:
    """The card of a reinforced dataset. Raises FileNotFoundError, ValueError naming the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("format_version")
        found.pop("made_of", None)  # which the writer compares
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist, so this is no reinforced dataset of ours") from None
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is no card of a reinforced dataset ({error})") from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format {version}, expected {FORMAT_VERSION}; reinforce the data again"
        )
    try:
        teachers = tuple(TeacherCard(**teacher) for teacher in found.pop("teachers"))
        policy = {k: tuple(v) if isinstance(v, list) else v for k, v in found.pop("policy").items()}
        return ReinforcementCard(teachers=teachers, policy=AugmentationPolicy(**policy), **found)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path} is no card of a reinforced dataset ({error})") from None


def identity_of_card(path: Path) -> str:
    """16 hex digits of all that a card says, the seed of the augmentations included."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


class ReinforcedDataset(Protocol):
    """Map-style; `skipped` says what is wrong with the samples that were left out."""

    card: ReinforcementCard
    skipped: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Reinforced: ...
