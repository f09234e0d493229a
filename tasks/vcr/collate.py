"""VCR's collators: pairs of question and choice, mentioned objects outlined for students that see patches."""

from typing import TYPE_CHECKING, Any

from PIL import Image

from tasks.collate import PatchCollator, RegionCollator
from tasks.vcr.data import VcrExample
from tasks.vcr.marks import colours_of, outline
from tasks.vcr.texts import ChoiceTexts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COLLATOR_OPTIONS = ("distillation", "teacher_boxes", "model", "max_regions")


def patch_collator(
    tokenizer: "PreTrainedTokenizerBase", image_transform: Any, *, mark: bool = True, **options: Any
) -> PatchCollator:
    """A `PatchCollator` of choices; mark: outline the objects that the instance mentions, colour-coded by name.

    options: of `PatchCollator`; all others are of `ChoiceTexts`.
    """
    own, texts = _split(options)
    texts = ChoiceTexts(tokenizer, **texts)

    def marked(example: VcrExample) -> Image.Image:
        names = example.item.names_for(texts.name_seed)
        return outline(example.image(), example.boxes, colours_of(example.mentioned, names))

    return PatchCollator(texts, image_transform, draw=marked if mark else None, **own)


def region_collator(tokenizer: "PreTrainedTokenizerBase", regions: Any, **options: Any) -> RegionCollator:
    """A `RegionCollator` of choices; options: of `RegionCollator`; all others are of `ChoiceTexts`."""
    own, texts = _split(options)
    return RegionCollator(ChoiceTexts(tokenizer, **texts), regions, **own)


def _split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {name: value for name, value in options.items() if name in COLLATOR_OPTIONS}
    return own, {name: value for name, value in options.items() if name not in own}
