"""Load a student from a checkpoint of any task of its architecture."""

import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from tasks.students.architectures import REGION_INPUT, Head, architecture_of, text_positions
from tasks.students.models import Classifier, MultipleChoice, NativeStudent


def load_student(name_or_folder: str | Path, **options: Any) -> MultipleChoice:
    """Load a scorer of candidates from a checkpoint of any task of a supported architecture.

    Options and errors are those of `load_native`.
    """
    native, fresh = load_native(name_or_folder, "score", **options)
    return _with_fresh(MultipleChoice(native), fresh)


def load_classifier(
    name_or_folder: str | Path, labels: Sequence[str], *, multi_label: bool = True, **options: Any
) -> Classifier:
    """Load a classifier from a checkpoint of any task of a supported architecture.

    Labels, options and errors are those of `load_native`.
    """
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
    """Load a native model. Return it and the names of its fresh parameters, which the checkpoint did not have.

    A warning names the fresh parameters.

    Args:
        name_or_folder: Hugging Face id or local folder.
        head_kind: the head to load.
        labels: names of the classes of a "classify" head, in its order. They are saved in config.json. If the
            checkpoint's config.json names other labels, the head starts fresh, even if the number is the same.
        max_text_tokens: number of text positions to provide. ViLT's (40 in its checkpoints) are extended, and new
            positions start as copies of the old ones in turn. Other architectures must have enough.
        visual_dim: width of the region features (VisualBERT, LXMERT). If the checkpoint has another width, its input
            projection starts fresh.
        options: passed to `from_pretrained` (dtype, attn_implementation, revision, …).

    Raises:
        ValueError: the model type is not supported, there are too few positions, or the checkpoint lacks this
            architecture's weights.
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
    loaded: Any = head.native.from_pretrained(
        name_or_folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    native, report = loaded
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
            f"{sorted(missing & backbone)[0]}); give a checkpoint of this architecture"
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
    """Return the names of the head's parameters that have `count` rows, one for each label."""
    prefixes = tuple(prefix for prefix in head.fresh if prefix not in REGION_INPUT)
    return {
        name for name, value in native.named_parameters() if name.startswith(prefixes) and len(value) == count
    }


def _start_anew(native: PreTrainedModel, names: Collection[str]) -> None:
    """Give these parameters the values of an untrained model."""
    if names:
        values = type(native)(native.config).state_dict()
        native.load_state_dict({name: values[name] for name in names}, strict=False)


def _shown(labels: Sequence[str]) -> str:
    return ", ".join(labels[:3]) + (", …" if len(labels) > 3 else "")


def _extend_vilt_positions(native: PreTrainedModel, positions: int) -> None:
    embeddings: Any = native.get_submodule("vilt.embeddings.text_embeddings")
    old = embeddings.position_embeddings
    new = nn.Embedding(positions, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.arange(positions, device=old.weight.device) % old.num_embeddings])
    embeddings.position_embeddings = new
    embeddings.position_ids = torch.arange(positions, device=old.weight.device).unsqueeze(0)
    native.config.max_position_embeddings = positions
