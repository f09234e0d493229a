"""The training data and the zero-shot data that the settings of distill_embeddings.py name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from tasks.embeddings.settings import DistillEmbeddings
from tasks.iconworld.files.classes import TEMPLATES as ICON_TEMPLATES
from tasks.iconworld.files.classes import of_families
from tasks.iconworld.files.pairs import IconworldPairs
from tasks.iconworld.glyphs import SEEN_FAMILIES, UNSEEN_FAMILIES

if TYPE_CHECKING:  # the functions import what needs torch: a finished run is told without it
    from cliptd.evaluation.image_folder import LabelledImages
    from cliptd.reinforcement.dataset import ReinforcedDataset


class ZeroShotData(NamedTuple):
    """Labelled images by the ending of their metrics' names ("", or ", unseen families"), and prompt templates."""

    sets: "dict[str, LabelledImages]"
    templates: Sequence[str]


def zero_shot_data(asked: DistillEmbeddings) -> ZeroShotData | None:
    """Return the data on which the steps are scored, or None if there is none.

    Raises:
        FileNotFoundError, ValueError: the folder, its first image or the templates cannot be read.
    """
    if asked.on_iconworld:
        families = {"": SEEN_FAMILIES, ", unseen families": UNSEEN_FAMILIES}
        return ZeroShotData(
            {ending: of_families(names, 500) for ending, names in families.items()}, ICON_TEMPLATES
        )
    if asked.zero_shot is None:
        return None
    from cliptd.evaluation.objectnet import labelled_images
    from cliptd.evaluation.zero_shot import TEMPLATES, read_templates

    templates = TEMPLATES if asked.templates is None else read_templates(asked.templates)
    return ZeroShotData({"": labelled_images(asked.zero_shot)}, templates)


def training_pairs(asked: DistillEmbeddings) -> MapStyle[Pair]:
    """Return the pairs, or images and sentences as pairs that they are not.

    Raises:
        FileNotFoundError, ValueError: the data cannot be read; the message names the file.
    """
    if asked.data is None and asked.images is None and not asked.takes_the_place:
        return IconworldPairs()
    if asked.data is not None:
        from cliptd.data.pairs.loading import load_pairs

        return load_pairs(
            asked.data,
            image_column=asked.csv_img_key,
            text_column=asked.csv_caption_key,
            separator=asked.csv_separator,
            on_bad_sample=asked.on_bad_sample,
        )
    from cliptd.unpaired.images_and_sentences import (
        ImagesOf,
        TextsOf,
        UnpairedPairs,
        load_images,
        load_sentences,
    )

    if asked.images is None or asked.sentences is None:  # images of some scenes, sentences about others
        return UnpairedPairs(ImagesOf(IconworldPairs()), TextsOf(IconworldPairs(seed=1)))
    sentences = load_sentences(
        asked.sentences, text_column=asked.csv_caption_key, on_bad_sample=asked.on_bad_sample
    )
    images = load_images(asked.images, on_bad_sample=asked.on_bad_sample)
    return UnpairedPairs(images, sentences, seed=asked.training.seed)


def reinforced_data(asked: DistillEmbeddings) -> "ReinforcedDataset":
    """Return the reinforced data: what is stored beside pairs, or shards that hold everything.

    Raises:
        FileNotFoundError, ValueError: a part is missing or of other data; the message names it.
    """
    from cliptd.reinforcement.compact_layout import ReinforcedStore
    from cliptd.reinforcement.loading import load_reinforced

    if asked.reinforced is not None:
        return ReinforcedStore(asked.reinforced, training_pairs(asked))
    assert asked.data is not None, "the settings refuse the reinforced objective without data"
    return load_reinforced(asked.data, pictures=asked.pictures, on_bad_sample=asked.on_bad_sample)
