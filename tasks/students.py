"""Students of the tasks: models of transformers behind one interface, without weights of our own.

`MultipleChoice` scores C candidate texts with an image (VCR), `Classifier` chooses one of many answers or labels for a
text and an image (VQA, SNLI-VE). What they save is the native model, which transformers loads without this package.
"""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MultipleChoiceModelOutput, SequenceClassifierOutput

from tasks.architectures import REGION_INPUT, Head, architecture_of, text_positions


class NativeStudent(nn.Module):
    """What both kinds share. native: the class of the architecture's head.

    Raises ValueError for a model of another type.
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
        """Tokens that the text side has positions for."""
        return text_positions(self.config)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the native model in transformers' own format."""
        self.native.save_pretrained(folder)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """As of transformers' models."""
        self.native.gradient_checkpointing_enable(**options)

    def read_head(self, input_ids: Tensor, columns: dict[str, Tensor | None]) -> Tensor:
        """What the native head says of (B, C, T) texts with B images, a row for b * C + c.

        columns: attention_mask and token_type_ids (B, C, T); image columns (B, …), repeated for the candidates, and
            image_text_alignment (B, R, L) or (B, C, R, L). Those that the architecture does not know are not used.

        Raises ValueError for texts of another rank, texts longer than the model's positions, a missing image column.
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
    """A transformers model as a scorer of C candidate texts with one image."""

    head_kind = "score"

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **columns: Tensor | None
    ) -> MultipleChoiceModelOutput:
        """Scores (B, C) as `logits` and, with labels (B,), their cross-entropy as `loss`; columns as for
        `read_head`."""
        logits = self.read_head(input_ids, columns).view(input_ids.shape[:2])
        loss = None if labels is None else F.cross_entropy(logits.float(), labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits)


class Classifier(NativeStudent):
    """A transformers model that chooses among A answers or labels for a text and an image.

    multi_label: with soft labels, the loss is the binary cross-entropy of every answer, summed over the answers (the
        usual one for VQA); False: the cross-entropy of the answers' softmax.
    """

    head_kind = "classify"

    def __init__(self, native: PreTrainedModel, *, multi_label: bool = True) -> None:
        super().__init__(native)
        self.multi_label = multi_label

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, **columns: Tensor | None
    ) -> SequenceClassifierOutput:
        """`logits` (B, A) and, with labels, `loss`; texts (B, 1, T), other columns as for `read_head`.

        labels: (B,) right classes, or (B, A) accuracies from 0 to 1.

        Raises ValueError for labels of another shape.
        """
        logits = self.read_head(input_ids, columns)
        if labels is None:
            return SequenceClassifierOutput(logits=logits)
        if labels.ndim == 2 and labels.shape != logits.shape:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)}, expected {tuple(logits.shape)}, an accuracy an answer"
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


def load_student(name_or_folder: str | Path, **options: Any) -> MultipleChoice:
    """A scorer of candidates from a checkpoint of any task of a supported architecture; options and errors as for
    `load_native`."""
    native, fresh = load_native(name_or_folder, "score", **options)
    return _with_fresh(MultipleChoice(native), fresh)


def load_classifier(
    name_or_folder: str | Path, labels: Sequence[str], *, multi_label: bool = True, **options: Any
) -> Classifier:
    """A classifier from a checkpoint of any task of a supported architecture; labels, options and errors as for
    `load_native`."""
    native, fresh = load_native(name_or_folder, "classify", labels=labels, **options)
    return _with_fresh(Classifier(native, multi_label=multi_label), fresh)


def load_native(
    name_or_folder: str | Path,
    head_kind: Literal["score", "classify"],
    *,
    labels: Sequence[str] = (),
    max_text_tokens: int | None = None,
    visual_dim: int | None = None,
    **options: Any,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """A native model, and the parameters that the checkpoint did not have, which start fresh; a warning names them.

    name_or_folder: Hugging Face id or local folder.
    labels: names of what a "classify" head chooses from, in its order; they are in the saved config.json. The head of a
        checkpoint whose config.json names others starts fresh, even if they are as many.
    max_text_tokens: positions to provide. ViLT's (40 in its checkpoints) are extended: new positions start as
        copies of the old ones in turn. Other architectures must have enough.
    visual_dim: width of the region features (VisualBERT, LXMERT); another width than the checkpoint's starts
        its input projection fresh.
    options: passed to `from_pretrained` (dtype, attn_implementation, revision, …).

    Raises ValueError for an unsupported type, too few positions, or a checkpoint without this architecture's
    weights.
    """
    config = AutoConfig.from_pretrained(name_or_folder)
    head: Head = getattr(architecture_of(config), head_kind)
    theirs = [config.id2label[number] for number in sorted(config.id2label)]
    if config.model_type == "lxmert":
        config.num_qa_labels = len(labels) or 1
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: number for number, name in enumerate(labels)}
    if visual_dim is not None:
        width = {"visual_bert": "visual_embedding_dim", "lxmert": "visual_feat_dim"}.get(config.model_type)
        if width is None:
            raise ValueError(
                f"visual_dim is for region students (visual_bert, lxmert), not for {config.model_type}"
            )
        setattr(config, width, visual_dim)
    native, report = head.native.from_pretrained(
        name_or_folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]}
    missing = set(report["missing_keys"])
    foreign = {key for key in mismatched if not key.startswith(head.fresh)}
    if foreign:
        raise ValueError(
            f"{name_or_folder}: weights of another shape than its config.json says: {sorted(foreign)[:5]}"
        )
    backbone = {key for key in native.state_dict() if not key.startswith(head.fresh)}
    if len(missing & backbone) > len(backbone) / 2:
        raise ValueError(
            f"{name_or_folder}: {len(missing & backbone)} of {len(backbone)} weights of "
            f"{config.model_type}'s backbone are not in the checkpoint (e.g. "
            f"{sorted(missing & backbone)[0]}); is it one of this architecture?"
        )
    misnamed: set[str] = set()
    if labels and theirs != list(labels):
        misnamed = _labels_weights(native, head, len(labels)) - missing - mismatched
        _start_anew(native, misnamed)
    fresh = tuple(sorted(missing | mismatched | misnamed))
    if fresh:
        reason = f" (its labels are {_shown(theirs)}, not {_shown(labels)})" if misnamed else ""
        warnings.warn(f"{name_or_folder}: fresh, to be trained: {', '.join(fresh)}{reason}", stacklevel=3)
    if max_text_tokens is not None and max_text_tokens > text_positions(config):
        if config.model_type != "vilt":
            raise ValueError(
                f"{name_or_folder} has positions for {text_positions(config)} text tokens, "
                f"{max_text_tokens} are asked for; lower max_text_tokens"
            )
        _extend_vilt_positions(native, max_text_tokens)
    return native, fresh


def _with_fresh(student: NativeStudent, fresh: tuple[str, ...]) -> Any:
    student.fresh_parameters = fresh
    return student


def _labels_weights(native: PreTrainedModel, head: Head, count: int) -> set[str]:
    """The head's parameters that have a row for each of so many labels."""
    prefixes = tuple(prefix for prefix in head.fresh if prefix not in REGION_INPUT)
    return {
        name for name, value in native.named_parameters() if name.startswith(prefixes) and len(value) == count
    }


def _start_anew(native: PreTrainedModel, names: Collection[str]) -> None:
    """Give these parameters the values of a model that is not trained."""
    if names:
        values = type(native)(native.config).state_dict()
        native.load_state_dict({name: values[name] for name in names}, strict=False)


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")


def _extend_vilt_positions(native: PreTrainedModel, positions: int) -> None:
    embeddings = native.vilt.embeddings.text_embeddings
    old = embeddings.position_embeddings
    new = nn.Embedding(positions, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.arange(positions, device=old.weight.device) % old.num_embeddings])
    embeddings.position_embeddings = new
    embeddings.position_ids = torch.arange(positions, device=old.weight.device).unsqueeze(0)
    native.config.max_position_embeddings = positions
