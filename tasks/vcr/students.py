"""Students for four-way choices: a model of transformers that scores each candidate text with the image.

`MultipleChoice` gives six architectures one interface, (B, C, T) texts and one image an instance → (B, C)
scores, and adds no weights: what it saves is the native model, which transformers loads without this package.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel, ViltForImageAndTextRetrieval
from transformers.modeling_outputs import MultipleChoiceModelOutput

from tasks.vcr.architectures import architecture_of


class MultipleChoice(nn.Module):
    """A transformers model as a scorer of C candidate texts with one image.

    native: one of the classes of `ARCHITECTURES`.

    Raises ValueError for a model of another type.
    """

    def __init__(self, native: PreTrainedModel) -> None:
        super().__init__()
        self.architecture = architecture_of(native.config)
        if not isinstance(native, self.architecture.native):
            raise ValueError(
                f"native is a {type(native).__name__}; expected {self.architecture.native.__name__} "
                "(load_student makes it from any checkpoint of this model type)"
            )
        self.native = native
        self.fresh_parameters: tuple[str, ...] = ()

    @property
    def config(self) -> PretrainedConfig:
        return self.native.config

    @property
    def max_text_tokens(self) -> int:
        """Tokens that the text side has positions for."""
        text = self.architecture.text(self.config)
        # RoBERTa counts positions from behind its padding index.
        reserved = text.pad_token_id + 1 if self.config.model_type == "bridgetower" else 0
        return text.max_position_embeddings - reserved

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        pixel_mask: Tensor | None = None,
        visual_embeds: Tensor | None = None,
        visual_attention_mask: Tensor | None = None,
        visual_token_type_ids: Tensor | None = None,
        image_text_alignment: Tensor | None = None,
        visual_feats: Tensor | None = None,
        visual_pos: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> MultipleChoiceModelOutput:
        """Scores (B, C) as `logits` and, with labels (B,), their cross-entropy as `loss`.

        input_ids, attention_mask, token_type_ids: (B, C, T). Image columns: (B, …), repeated for the
        candidates, and image_text_alignment (B, R, L) or (B, C, R, L). Columns that the architecture does not
        know are not used; the native model sees rows b * C + c.

        Raises ValueError for texts of another rank, texts longer than the model's positions, a missing image
        column.
        """
        if input_ids.ndim != 3:
            raise ValueError(
                f"input_ids has shape {tuple(input_ids.shape)}, expected (batch, candidates, tokens)"
            )
        batch, candidates, tokens = input_ids.shape
        if tokens > self.max_text_tokens:
            raise ValueError(
                f"texts have {tokens} tokens, and this {self.config.model_type} has positions for "
                f"{self.max_text_tokens}; lower the collator's max_length (ViLT: load_student(…, "
                f"max_text_tokens={tokens}))"
            )
        text = {"input_ids": input_ids, "attention_mask": attention_mask}
        if getattr(self.architecture.text(self.config), "type_vocab_size", 1) > 1:
            text["token_type_ids"] = token_type_ids
        image = {
            "pixel_values": pixel_values,
            "pixel_mask": pixel_mask,
            "visual_embeds": visual_embeds,
            "visual_attention_mask": visual_attention_mask,
            "visual_token_type_ids": visual_token_type_ids,
            "image_text_alignment": image_text_alignment,
            "visual_feats": visual_feats,
            "visual_pos": visual_pos,
        }
        for name in self.architecture.images:
            if image[name] is None:
                collator = "PatchCollator" if name == "pixel_values" else "RegionCollator"
                raise ValueError(
                    f"{self.config.model_type} needs {name}, which the batch lacks; use {collator}"
                )
        wanted = (*self.architecture.images, *self.architecture.optional_images)
        inputs = {name: value.flatten(0, 1) for name, value in text.items() if value is not None}
        for name in wanted:
            value = image[name]
            if value is not None and name == "image_text_alignment" and value.ndim == 4:
                inputs[name] = value.flatten(0, 1)
            elif value is not None:
                repeats = candidates if self.architecture.repeat_images else 1
                inputs[name] = value.repeat_interleave(repeats, dim=0)
        logits = self.architecture.score(self.native, inputs).view(batch, candidates)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the native model in transformers' own format."""
        self.native.save_pretrained(folder)

    def gradient_checkpointing_enable(self, **options: Any) -> None:
        """As of transformers' models."""
        self.native.gradient_checkpointing_enable(**options)


def load_student(
    name_or_folder: str | Path,
    *,
    max_text_tokens: int | None = None,
    visual_dim: int | None = None,
    **options: Any,
) -> MultipleChoice:
    """A student from a checkpoint of any task of a supported architecture; what the checkpoint lacks starts
    fresh.

    name_or_folder: Hugging Face id or local folder.
    max_text_tokens: positions to provide. ViLT's (40 in its checkpoints) are extended: new positions start as
        copies of the old ones in turn. Other architectures must have enough.
    visual_dim: width of the region features (VisualBERT, LXMERT); another width than the checkpoint's starts
        its input projection fresh.
    options: passed to `from_pretrained` (dtype, attn_implementation, revision, …).

    `student.fresh_parameters` lists the parameters that the checkpoint did not have; a warning names them.
    Raises ValueError for an unsupported type, too few positions, or a checkpoint without this architecture's
    weights.
    """
    config = AutoConfig.from_pretrained(name_or_folder)
    architecture = architecture_of(config)
    if config.model_type == "lxmert":
        config.num_qa_labels = 1
    if visual_dim is not None:
        width = {"visual_bert": "visual_embedding_dim", "lxmert": "visual_feat_dim"}.get(config.model_type)
        if width is None:
            raise ValueError(
                f"visual_dim is for region students (visual_bert, lxmert), not for {config.model_type}"
            )
        setattr(config, width, visual_dim)
    native, report = architecture.native.from_pretrained(
        name_or_folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    mismatched = {entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]}
    missing = set(report["missing_keys"])
    foreign = {key for key in mismatched if not key.startswith(architecture.head)}
    if foreign:
        raise ValueError(
            f"{name_or_folder}: weights of another shape than its config.json says: {sorted(foreign)[:5]}"
        )
    backbone = {key for key in native.state_dict() if not key.startswith(architecture.head)}
    if len(missing & backbone) > len(backbone) / 2:
        raise ValueError(
            f"{name_or_folder}: {len(missing & backbone)} of {len(backbone)} weights of "
            f"{config.model_type}'s backbone are not in the checkpoint (e.g. "
            f"{sorted(missing & backbone)[0]}); is it one of this architecture?"
        )
    student = MultipleChoice(native)
    student.fresh_parameters = tuple(sorted(missing | mismatched))
    if student.fresh_parameters:
        warnings.warn(
            f"{name_or_folder}: fresh, to be trained: {', '.join(student.fresh_parameters)}", stacklevel=2
        )
    if max_text_tokens is not None and max_text_tokens > student.max_text_tokens:
        if config.model_type != "vilt":
            raise ValueError(
                f"{name_or_folder} has positions for {student.max_text_tokens} text tokens, "
                f"{max_text_tokens} are asked for; lower max_text_tokens"
            )
        _extend_vilt_positions(native, max_text_tokens)
    return student


def _extend_vilt_positions(native: ViltForImageAndTextRetrieval, positions: int) -> None:
    embeddings = native.vilt.embeddings.text_embeddings
    old = embeddings.position_embeddings
    new = nn.Embedding(positions, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.arange(positions, device=old.weight.device) % old.num_embeddings])
    embeddings.position_embeddings = new
    embeddings.position_ids = torch.arange(positions, device=old.weight.device).unsqueeze(0)
    native.config.max_position_embeddings = positions
