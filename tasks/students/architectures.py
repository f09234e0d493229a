"""How six architectures of transformers are called to score a text with an image, or to classify the two."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import (
    BlipForImageTextRetrieval,
    BridgeTowerForImageAndTextRetrieval,
    BridgeTowerModel,
    BridgeTowerPreTrainedModel,
    FlavaModel,
    FlavaPreTrainedModel,
    LxmertForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
    ViltForImageAndTextRetrieval,
    ViltForQuestionAnswering,
    VisualBertForMultipleChoice,
    VisualBertForVisualReasoning,
)

AnyConfig: TypeAlias = Any
"""A configuration with parts, which transformers declares as perhaps dictionaries, perhaps None."""


class FlavaForImageTextScore(FlavaPreTrainedModel):
    """FLAVA with a linear head on its multimodal CLS state; `FlavaModel.from_pretrained` loads what it
    saves."""

    outputs: int | None = 1

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        self.flava = FlavaModel(config)
        self.score = nn.Linear(config.multimodal_config.hidden_size, self.outputs or config.num_labels)
        self.post_init()

    def forward(self, **inputs: Tensor) -> Tensor:
        """(N, 1) of N texts with N images; inputs as for `FlavaModel`."""
        return self.score(self.flava(**inputs).multimodal_embeddings[:, 0])


class FlavaForClassification(FlavaForImageTextScore):
    """The same with `config.num_labels` outputs."""

    outputs = None


class BridgeTowerForClassification(BridgeTowerPreTrainedModel):
    """BridgeTower with a linear head on its pooled states; `BridgeTowerModel.from_pretrained` loads what it
    saves."""

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        self.bridgetower = BridgeTowerModel(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, **inputs: Tensor) -> Tensor:
        """(N, num_labels) of N texts with N images; inputs as for `BridgeTowerModel`."""
        return self.classifier(self.bridgetower(**inputs).pooler_output)


class BlipForClassification(BlipForImageTextRetrieval):
    """BLIP's image-grounded text encoder with a linear head on its first state in place of the retrieval
    heads."""

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        del self.vision_proj, self.text_proj, self.itm_head
        self.classifier = nn.Linear(config.text_config.hidden_size, config.num_labels)
        self.post_init()


@dataclass(frozen=True)
class Head:
    """A native class and how its head is read.

    call: the model and its inputs, N rows → (N,) scores or (N, num_labels) logits.
    fresh: prefixes of the parameters that a checkpoint of another task may lack.
    """

    native: type[PreTrainedModel]
    call: Callable[[Any, dict[str, Tensor]], Tensor]
    fresh: tuple[str, ...]


@dataclass(frozen=True)
class Architecture:
    """How one architecture is called.

    images, optional_images: the image columns it needs and those it may have.
    score, classify: with one number a text and image, and with `num_labels`.
    text: its configuration of the text side.
    repeat_images: image columns have a row per candidate; False: one per instance, and `call` repeats what
        it must.
    """

    images: tuple[str, ...]
    optional_images: tuple[str, ...]
    score: Head
    classify: Head
    text: Callable[[PretrainedConfig], PretrainedConfig] = lambda config: config
    repeat_images: bool = True


def _match_margin(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]  # log-odds that image and text match


def _blip_state(model: BlipForImageTextRetrieval, inputs: dict[str, Tensor]) -> Tensor:
    # As the model's own forward, but each image is encoded once for all its candidates, and the image mask is
    # made on the image's device (the model's own forward makes it on the CPU).
    image_states = model.vision_model(pixel_values=inputs.pop("pixel_values")).last_hidden_state
    image_states = image_states.repeat_interleave(len(inputs["input_ids"]) // len(image_states), dim=0)
    image_mask = image_states.new_ones(image_states.shape[:-1], dtype=torch.long)
    text = model.text_encoder(encoder_hidden_states=image_states, encoder_attention_mask=image_mask, **inputs)
    return text.last_hidden_state[:, 0]


def _score_visual_bert(model: VisualBertForMultipleChoice, inputs: dict[str, Tensor]) -> Tensor:
    # The native head takes (batch, choices, tokens): each row is an instance of one choice.
    text = {name: inputs.pop(name).unsqueeze(1) for name in TEXT_COLUMNS if name in inputs}
    return model(**text, **inputs).logits[:, 0]


TEXT_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
PIXELS = ("pixel_values",)
REGION_INPUT = ("visual_bert.embeddings.visual_projection", "lxmert.encoder.visn_fc.visn_fc")
ARCHITECTURES = {
    "vilt": Architecture(
        PIXELS,
        ("pixel_mask",),
        Head(ViltForImageAndTextRetrieval, lambda m, x: m(**x).logits[:, 0], ("rank_output",)),
        Head(ViltForQuestionAnswering, lambda m, x: m(**x).logits, ("classifier",)),
    ),
    "visual_bert": Architecture(
        ("visual_embeds",),
        ("visual_attention_mask", "visual_token_type_ids", "image_text_alignment"),
        Head(VisualBertForMultipleChoice, _score_visual_bert, ("cls", *REGION_INPUT)),
        Head(VisualBertForVisualReasoning, lambda m, x: m(**x).logits, ("cls", *REGION_INPUT)),
    ),
    "lxmert": Architecture(
        ("visual_feats", "visual_pos"),
        ("visual_attention_mask",),
        Head(
            LxmertForQuestionAnswering,
            lambda m, x: m(**x).question_answering_score[:, 0],
            ("answer_head", *REGION_INPUT),
        ),
        Head(
            LxmertForQuestionAnswering,
            lambda m, x: m(**x).question_answering_score,
            ("answer_head", *REGION_INPUT),
        ),
    ),
    "bridgetower": Architecture(
        PIXELS,
        ("pixel_mask",),
        Head(BridgeTowerForImageAndTextRetrieval, lambda m, x: _match_margin(m(**x).logits), ("itm_score",)),
        Head(BridgeTowerForClassification, lambda m, x: m(**x), ("classifier",)),
        lambda config: config.text_config,
    ),
    "flava": Architecture(
        PIXELS,
        (),
        Head(FlavaForImageTextScore, lambda m, x: m(**x)[:, 0], ("score",)),
        Head(FlavaForClassification, lambda m, x: m(**x), ("score",)),
        lambda config: config.text_config,
    ),
    "blip": Architecture(
        PIXELS,
        (),
        Head(
            BlipForImageTextRetrieval,
            lambda m, x: _match_margin(m.itm_head(_blip_state(m, x))),
            ("itm_head", "vision_proj", "text_proj"),
        ),
        Head(BlipForClassification, lambda m, x: m.classifier(_blip_state(m, x)), ("classifier",)),
        lambda config: config.text_config,
        repeat_images=False,
    ),
}


def architecture_of(config: PretrainedConfig) -> Architecture:
    """The architecture of a configuration.

    Raises:
        ValueError: for a model type that is not among ARCHITECTURES, naming those that are.
    """
    if config.model_type not in ARCHITECTURES:
        raise ValueError(
            f"model type {config.model_type!r} is not supported as a student of the tasks; expected one of "
            f"{', '.join(ARCHITECTURES)} (any other nn.Module: give it (B, C, T) texts and (B, C) logits "
            "yourself and cliptd.wrap it with StudentStates)"
        )
    return ARCHITECTURES[config.model_type]


def text_positions(config: PretrainedConfig) -> int:
    """Tokens that a configuration's text side has positions for."""
    text = architecture_of(config).text(config)
    # RoBERTa counts positions from behind its padding index.
    reserved = text.pad_token_id + 1 if config.model_type == "bridgetower" else 0
    return text.max_position_embeddings - reserved
