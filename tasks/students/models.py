"""The students of the tasks: models of transformers behind one interface, without further weights.

`MultipleChoice` scores C candidate texts with an image (VCR). `Classifier` chooses one of many answers or labels for a
text and an image (VQA, SNLI-VE). They save the native model, which transformers loads without this package.
"""

from pathlib import Path
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MultipleChoiceModelOutput, SequenceClassifierOutput

from tasks.students.architectures import Head, architecture_of, text_positions


class NativeStudent(nn.Module):
    """The base of both kinds of student.

    Args:
        native: a model of the class that the architecture's head needs.

    Raises:
        ValueError: the model is of another class.
    """

    head_kind: Literal["score", "classify"]

    def __init__(self, native: PreTrainedModel) -> None:
        super().__init__()
        self.architecture = architecture_of(native.config)
        self.head: Head = getattr(self.architecture, self.head_kind)
        if not isinstance(native, self.head.native):
            raise ValueError(
                f"native is a {type(native).__name__}; expected {self.head.native.__name__} "
                "(load_student and load_classifier make it from any checkpoint of this model type)"
            )
        self.native = native
        self.fresh_parameters: tuple[str, ...] = ()

    @property
    def config(self) -> PretrainedConfig:
        return self.native.config

    @property
    def max_text_tokens(self) -> int:
        """Return the number of tokens that the text side has positions for."""
        return text_positions(self.config)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the native model in transformers' own format."""
        self.native.save_pretrained(folder)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """Enable gradient checkpointing, as transformers' models do."""
        self.native.gradient_checkpointing_enable(**options)

    def read_head(self, input_ids: Tensor, columns: dict[str, Tensor | None]) -> Tensor:
        """Return the native head's output for (B, C, T) texts with B images. Row b * C + c is candidate c of image b.

        Args:
            columns: attention_mask and token_type_ids (B, C, T), image columns (B, …), which are repeated for the
                candidates, and image_text_alignment (B, R, L) or (B, C, R, L). Columns that the architecture does not
                know are ignored.

        Raises:
            ValueError: the texts have another rank or more tokens than the model has positions, or an image column is
                missing.
        """
        if input_ids.ndim != 3:
            raise ValueError(
                f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, candidates, tokens)"
            )
        candidates, tokens = input_ids.shape[1:]
        if tokens > self.max_text_tokens:
            raise ValueError(
                f"texts have {tokens} tokens, and this {self.config.model_type} has positions for "
                f"{self.max_text_tokens}; lower the collator's max_length (ViLT: load_student(…, "
                f"max_text_tokens={tokens}))"
            )
        text = {"input_ids": input_ids, "attention_mask": columns.get("attention_mask")}
        if getattr(self.architecture.text(self.config), "type_vocab_size", 1) > 1:
            text["token_type_ids"] = columns.get("token_type_ids")
        inputs = {name: value.flatten(0, 1) for name, value in text.items() if value is not None}
        for name in self.architecture.images:
            if columns.get(name) is None:
                collator = "PatchCollator" if name == "pixel_values" else "RegionCollator"
                raise ValueError(
                    f"{self.config.model_type} needs {name}, which the batch lacks; use {collator}"
                )
        for name in (*self.architecture.images, *self.architecture.optional_images):
            value = columns.get(name)
            if value is not None and name == "image_text_alignment" and value.ndim == 4:
                inputs[name] = value.flatten(0, 1)
            elif value is not None:
                repeats = candidates if self.architecture.repeat_images else 1
                inputs[name] = value.repeat_interleave(repeats, dim=0)
        return self.head.call(self.native, inputs)


class MultipleChoice(NativeStudent):
    """A model of transformers that scores C candidate texts with one image."""

    head_kind = "score"

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **columns: Tensor | None
    ) -> MultipleChoiceModelOutput:
        """Return scores (B, C) as `logits` and, with labels (B,), their cross-entropy as `loss`.

        Columns are as for `read_head`.
        """
        logits = self.read_head(input_ids, columns).view(input_ids.shape[:2])
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits)


class Classifier(NativeStudent):
    """A model of transformers that chooses among A answers or labels for a text and an image.

    Args:
        multi_label: the loss with soft labels. If true, the binary cross-entropy summed over the answers, as usual for
            VQA. If false, the cross-entropy of the answers' softmax.
    """

    head_kind = "classify"

    def __init__(self, native: PreTrainedModel, *, multi_label: bool = True) -> None:
        super().__init__(native)
        self.multi_label = multi_label

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **columns: Tensor | None
    ) -> SequenceClassifierOutput:
        """Return `logits` (B, A) and, with labels, `loss`. Texts are (B, 1, T), other columns as for `read_head`.

        Args:
            labels: (B,) right classes, or (B, A) accuracies from 0 to 1.

        Raises:
            ValueError: the labels have another shape.
        """
        logits = self.read_head(input_ids, columns)
        if labels is None:
            return SequenceClassifierOutput(logits=logits)
        if labels.ndim == 2 and labels.shape != logits.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, expected {tuple(logits.shape)}, an accuracy for each answer"
            )
        if labels.ndim == 1:
            loss = F.cross_entropy(logits.float(), labels)
        elif self.multi_label:
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
            loss = loss / len(labels)
        else:
            soft = labels.float() / labels.float().sum(1, keepdim=True).clamp(min=1e-6)
            loss = F.cross_entropy(logits.float(), soft)
        return SequenceClassifierOutput(loss=loss, logits=logits)
