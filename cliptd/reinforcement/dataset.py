"""Reinforced datasets (MobileCLIP, arXiv 2311.17049): pairs with augmentations, captions and teachers' embeddings."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from PIL import Image

from cliptd.data.augmentation import Augmentation, AugmentationPolicy
from cliptd.data.images import AnyImage

CARD, BAD = "reinforcement.json", "bad_samples.txt"
FORMAT_VERSION = 2


class Reinforced(NamedTuple):
    """A pair and its reinforcement.

    image: returns the whole image when called. captions: the synthetic captions, if there are any.
    image_embeds: (augmentations, Σ dims), the teachers' embeddings of each augmented image. text_embeds: (1 + captions,
        Σ dims), those of the text and of the captions. Each teacher's have unit length; they lie side by side.
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
    """A teacher whose embeddings a reinforced dataset holds. fingerprint None: nobody recorded it."""

    name: str
    fingerprint: str | None
    embed_dim: int
    logit_scale: float


@dataclass(frozen=True)
class ReinforcementCard:
    """The description of a reinforced dataset.

    augmentations: augmented images of each pair. captions: synthetic captions of each pair. captioner: the captioner's
    name, or None without synthetic captions.
    """

    teachers: tuple[TeacherCard, ...]
    policy: AugmentationPolicy
    augmentations: int
    captions: int
    captioner: str | None = None

    @property
    def embed_dims(self) -> list[int]:
        """Return the width of each teacher's embeddings, which lie side by side."""
        return [teacher.embed_dim for teacher in self.teachers]

    @property
    def logit_scales(self) -> list[float]:
        """Return each teacher's logit scale."""
        return [teacher.logit_scale for teacher in self.teachers]

    def to_json(self) -> str:
        """Return the card as the JSON text that `read_card` reads."""
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
"""The card of the public DataCompDR-12M, which has no card file. DataCompDR-1B differs in having 10 augmentations."""


def read_card(path: Path) -> ReinforcementCard:
    """Read the card of a reinforced dataset. Raises FileNotFoundError or ValueError naming the file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("format_version")
        found.pop("made_of", None)  # only the writer reads it
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{path} does not exist, so its folder is no dataset that reinforce_dataset.py wrote; give one"
        ) from None
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path} is no card of a reinforced dataset ({error}); reinforce the data again"
        ) from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format {version}, expected {FORMAT_VERSION}; reinforce the data again"
        )
    try:
        teachers = tuple(TeacherCard(**teacher) for teacher in found.pop("teachers"))
        policy: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in found.pop("policy").items()
        }
        return ReinforcementCard(teachers=teachers, policy=AugmentationPolicy(**policy), **found)
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is no card of a reinforced dataset ({error}); reinforce the data again"
        ) from None


def identity_of_card(path: Path) -> str:
    """Return "sha256:" and 16 hex digits of a card's file, which also holds the seed of the augmentations."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


class ReinforcedDataset(Protocol):
    """A map-style dataset of reinforced samples with its card, and the reasons of the samples that were skipped."""

    @property
    def card(self) -> ReinforcementCard:
        """Return the description of the dataset."""

    @property
    def skipped(self) -> Sequence[str]:
        """Return the reasons of the samples that were skipped."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int, /) -> Reinforced:
        """Return a sample."""


def opener(image: AnyImage) -> Callable[[], Image.Image]:
    """Return a function that opens the image of a pair, which is no tensor. A pair's own function stays as it is."""
    found = image if callable(image) else lambda: image
    return cast(Callable[[], Image.Image], found)
