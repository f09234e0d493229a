"""From examples to a student's batch: B instances, C candidate texts each (VCR 4, VQA and SNLI-VE 1), one image each.

`PatchCollator` serves students that read pixels (ViLT, BridgeTower, BLIP, FLAVA), `RegionCollator` those that read
region features (VisualBERT, LXMERT). Both take the examples of any task: their `image_key` (the same key is always the
same image), `image` (a function that opens it), `size` (width, height), `boxes` (R, 4) in pixels and `mentioned`, the
numbers of the boxes that the text names.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image
from torch import Tensor

from cliptd.targeted.inputs import DistillationInputs
from tasks.batches.box_views import BoxViews, TeacherBoxes
from tasks.batches.example import Example, all_boxes
from tasks.batches.texts import EncodedExample, ExampleTexts, pad_to_batch

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

    from tasks.batches.region_features import RegionFeatures


class PatchCollator:
    """Batches for students that see image patches.

    texts: of the task, e.g. `ChoiceTexts`.
    image_transform: the student's: an image processor of transformers, or a function from an RGB image to a
        tensor (3, H, W); smaller tensors of a batch are padded and masked.
    draw: the picture that the student sees of an example; None: its image.
    distillation: also hand over `batch["distillation_inputs"]` (the example's image, as it is).
    teacher_boxes: what the teacher is shown of each box, see `BoxViews`; "none": whole images only.

    A batch: input_ids, attention_mask and, if the tokenizer has them, token_type_ids (B, C, T); pixel_values
    (B, 3, H, W); pixel_mask (B, H, W); labels (B,), or (B, A) of soft ones, unless an example has none.
    """

    def __init__(
        self,
        texts: ExampleTexts,
        image_transform: "BaseImageProcessor | Callable[[Image.Image], Tensor]",
        *,
        draw: Callable[[Any], Image.Image] | None = None,
        distillation: bool = False,
        teacher_boxes: TeacherBoxes = "none",
    ) -> None:
        self.texts, self.image_transform, self.distillation = texts, image_transform, distillation
        self.draw = draw or (lambda example: example.image())
        self.teacher_boxes = teacher_boxes

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        encoded = self.texts(examples)
        batch = _text_columns(self.texts, examples, encoded)
        if self.distillation:
            batch["distillation_inputs"] = _distillation_inputs(examples, encoded, self.teacher_boxes)
        images = [self.draw(example) for example in examples]
        if hasattr(self.image_transform, "preprocess"):
            processor: Any = self.image_transform
            pixels = processor(images=images, return_tensors="pt")
            values = pixels["pixel_values"]
            mask = pixels.get("pixel_mask")
            mask = torch.ones(values.shape[0], *values.shape[2:], dtype=torch.int64) if mask is None else mask
        else:
            tensors = [self.image_transform(image) for image in images]
            values = pad_to_batch(tensors, 0.0)
            mask = pad_to_batch([torch.ones(tensor.shape[1:], dtype=torch.int64) for tensor in tensors], 0)
        return {**batch, "pixel_values": values, "pixel_mask": mask}

    def distillation_inputs(self, examples: Sequence[Example]) -> DistillationInputs:
        """What the teacher is asked about the examples; no picture is opened for it."""
        return _distillation_inputs(examples, self.texts(examples), self.teacher_boxes)


class RegionCollator:
    """Batches for students that see region features; the first region is the whole image.

    texts: of the task, e.g. `ChoiceTexts`.
    regions: a `RegionFeatures`, or anything with its `lookup`.
    model: "visual_bert" or "lxmert".
    max_regions: per instance, the whole image included; the objects that the instance mentions come before
        others.
    distillation, teacher_boxes: as for `PatchCollator`.

    A batch: the text columns and labels of `PatchCollator`, and for VisualBERT visual_embeds (B, R, D),
    visual_attention_mask and visual_token_type_ids (B, R), image_text_alignment (B, C, R, L): positions of
    the tokens that name the region, -1 beyond; a region that no token names stands at the first token, as the
    model needs one. For LXMERT visual_feats (B, R, D), visual_pos (B, R, 4) boxes as shares of the image,
    visual_attention_mask (B, R).
    """

    def __init__(
        self,
        texts: ExampleTexts,
        regions: "RegionFeatures",
        *,
        model: Literal["visual_bert", "lxmert"] = "visual_bert",
        max_regions: int = 36,
        distillation: bool = False,
        teacher_boxes: TeacherBoxes = "none",
    ) -> None:
        if model not in ("visual_bert", "lxmert"):
            raise ValueError(f"model is {model!r}; region students are 'visual_bert' and 'lxmert'")
        if max_regions < 1:
            raise ValueError(f"max_regions is {max_regions}; at least 1, the whole image, is needed")
        self.texts, self.regions, self.model, self.max_regions = texts, regions, model, max_regions
        self.distillation, self.teacher_boxes = distillation, teacher_boxes

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        encoded = self.texts(examples)
        batch = _text_columns(self.texts, examples, encoded)
        kept = [self._kept_objects(example) for example in examples]
        region_objects = pad_to_batch([torch.tensor([-1, *objects]) for objects in kept], -1)
        if self.distillation:
            batch["distillation_inputs"] = _distillation_inputs(
                examples, encoded, self.teacher_boxes, region_objects
            )
        boxes = [all_boxes(example) for example in examples]
        features = self.regions.lookup(
            [example.image_key for example in examples], [example.image for example in examples], boxes
        )
        rows = [torch.tensor([0, *(index + 1 for index in objects)]) for objects in kept]
        visual = pad_to_batch([x[r] for x, r in zip(features, rows, strict=True)], 0.0)
        mask = pad_to_batch([torch.ones(len(r), dtype=torch.int64) for r in rows], 0)
        if self.model == "lxmert":
            scales = [
                torch.tensor([*example.size, *example.size], dtype=torch.float32) for example in examples
            ]
            shares = [b[r] / scale for b, r, scale in zip(boxes, rows, scales, strict=True)]
            visual_pos = pad_to_batch(shares, 0.0)
            return {**batch, "visual_feats": visual, "visual_pos": visual_pos, "visual_attention_mask": mask}
        object_ids = pad_to_batch([example.object_ids for example in encoded], -1)
        return {
            **batch,
            "visual_embeds": visual,
            "visual_attention_mask": mask,
            "visual_token_type_ids": torch.ones_like(mask),
            "image_text_alignment": align(region_objects, object_ids),
        }

    def distillation_inputs(self, examples: Sequence[Example]) -> DistillationInputs:
        """What the teacher is asked about the examples; no picture is opened for it."""
        return _distillation_inputs(examples, self.texts(examples), self.teacher_boxes)

    def _kept_objects(self, example: Example) -> list[int]:
        mentioned = example.mentioned
        others = [index for index in range(len(example.boxes)) if index not in mentioned]
        return sorted([*mentioned, *others][: self.max_regions - 1])


def align(region_objects: Tensor, object_ids: Tensor) -> Tensor:
    """Token positions that name each region, as VisualBERT's image_text_alignment.

    region_objects: (B, R) object of each region, -1 for none. object_ids: (B, C, T) object that each token
    names, -1 for none. Returns (B, C, R, L) int64, ascending positions, -1 beyond them; position 0 for a
    region without mention.

    >>> align(torch.tensor([[-1, 4]]), torch.tensor([[[-1, 4, -1, 4]]])).tolist()
    [[[[0, -1], [1, 3]]]]
    """
    named = (object_ids[:, :, None, :] == region_objects[:, None, :, None]) & (region_objects >= 0)[
        :, None, :, None
    ]
    tokens = object_ids.shape[-1]
    positions = torch.arange(tokens).where(named, torch.tensor(tokens))
    longest = max(1, int(named.sum(-1).max()))
    positions = positions.sort(-1).values[..., :longest]
    positions[..., 0][~named.any(-1)] = 0
    return positions.masked_fill(positions == tokens, -1)


def _text_columns(
    texts: ExampleTexts, examples: Sequence[Example], encoded: list[EncodedExample]
) -> dict[str, Any]:
    """The student's columns that both kinds of student share: texts and labels."""
    names = encoded[0].columns
    batch = {name: pad_to_batch([e.columns[name] for e in encoded], texts.padding_of(name)) for name in names}
    labels = [example.label for example in examples]
    if all(label is not None for label in labels):
        batch["labels"] = torch.stack([torch.as_tensor(label) for label in labels])
    return batch


def _distillation_inputs(
    examples: Sequence[Example],
    encoded: list[EncodedExample],
    teacher_boxes: TeacherBoxes,
    region_objects: Tensor | None = None,
) -> DistillationInputs:
    """What the teacher is asked; region_objects (B, P): the object that each image token of the student is."""
    rivals = [e.rival_texts for e in encoded if e.rival_texts is not None]
    inputs = DistillationInputs(
        image_keys=[example.image_key for example in examples],
        images=[example.image for example in examples],
        texts=[e.teacher_texts for e in encoded],
        words=[e.words for e in encoded],
        word_ids=pad_to_batch([e.word_ids for e in encoded], -1),
        rival_texts=rivals or None,
    )
    if teacher_boxes == "none":
        return inputs
    views = [BoxViews(example, teacher_boxes) for example in examples]
    return replace(
        inputs,
        region_keys=[view.keys for view in views],
        regions=[view.pictures for view in views],
        region_ids=region_objects,
    )
