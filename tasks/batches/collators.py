"""Make a student's batch of examples: B instances, each of one image and C texts (VCR 4, VQA and SNLI-VE 1).

`PatchCollator` serves students that read pixels (ViLT, BridgeTower, BLIP, FLAVA). `RegionCollator` serves students that
read region features (VisualBERT, LXMERT). Both take the examples of any task, see `tasks.batches.example.Example`.
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

    A batch has these columns.

    - input_ids, attention_mask and, if the tokenizer has them, token_type_ids, (B, C, T).
    - pixel_values (B, 3, H, W) and pixel_mask (B, H, W).
    - labels (B,), or soft labels (B, A), unless an example has none.

    Args:
        texts: of the task, such as `ChoiceTexts`.
        image_transform: the student's image processor of transformers, or a function from an RGB image to a tensor
            (3, H, W). Smaller tensors of a batch are padded and masked.
        draw: makes the image that the student sees of an example. None: the example's image.
        distillation: if true, add "distillation_inputs" to the batch, with the example's image as it is.
        teacher_boxes: the image of each box for the teacher, see `BoxViews`. "none": whole images only.
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
        """Return what the teacher is asked about the examples. No image is opened for it."""
        return _distillation_inputs(examples, self.texts(examples), self.teacher_boxes)


class RegionCollator:
    """Batches for students that see region features. The first region is the whole image.

    A batch has the text columns and labels of `PatchCollator`, and these.

    - VisualBERT: visual_embeds (B, R, D), visual_attention_mask and visual_token_type_ids (B, R), and
      image_text_alignment (B, C, R, L), see `align`.
    - LXMERT: visual_feats (B, R, D), visual_pos (B, R, 4), which are boxes as shares of the image, and
      visual_attention_mask (B, R).

    Args:
        texts: of the task, such as `ChoiceTexts`.
        regions: a `RegionFeatures`, or anything with its `lookup`.
        model: "visual_bert" or "lxmert".
        max_regions: most regions of an instance, the whole image included. The objects that the instance mentions come
            before others.
        distillation: as for `PatchCollator`.
        teacher_boxes: as for `PatchCollator`.
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
            raise ValueError(f"model is {model!r}; expected 'visual_bert' or 'lxmert'")
        if max_regions < 1:
            raise ValueError(f"max_regions is {max_regions}; expected at least 1, the whole image")
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
        """Return what the teacher is asked about the examples. No image is opened for it."""
        return _distillation_inputs(examples, self.texts(examples), self.teacher_boxes)

    def _kept_objects(self, example: Example) -> list[int]:
        mentioned = example.mentioned
        others = [index for index in range(len(example.boxes)) if index not in mentioned]
        return sorted([*mentioned, *others][: self.max_regions - 1])


def align(region_objects: Tensor, object_ids: Tensor) -> Tensor:
    """Return the positions of the tokens that name each region, as VisualBERT's image_text_alignment.

    Args:
        region_objects: (B, R) object of each region, -1 for none.
        object_ids: (B, C, T) object that each token names, -1 for none.

    Returns:
        (B, C, R, L) int64 ascending positions, padded with -1. A region that no token names gets position 0, because
        the model needs one.

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
    """Return the columns that both kinds of student share: texts and labels."""
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
    """Return what the teacher is asked. region_objects: (B, P) object of each image token of the student."""
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
        regions=[view.images for view in views],
        region_ids=region_objects,
    )
