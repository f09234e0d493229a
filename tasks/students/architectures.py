"""The calls of six architectures of transformers to score a text with an image, or to classify the two."""

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
    """FLAVA with a linear head on its multimodal CLS state. `FlavaModel.from_pretrained` loads its checkpoints."""

    outputs: int | None = 1

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        self.flava = FlavaModel(config)
        self.score = nn.Linear(config.multimodal_config.hidden_size, self.outputs or config.num_labels)
        self.post_init()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return (N, outputs) scores of N texts with N images. Inputs are as for `FlavaModel`."""
        return self.score(self.flava(**inputs).multimodal_embeddings[:, 0])


class FlavaForClassification(FlavaForImageTextScore):
    """FLAVA with a linear head of `config.num_labels` outputs on its multimodal CLS state."""

    outputs = None


class BridgeTowerForClassification(BridgeTowerPreTrainedModel):
    """BridgeTower with a linear head on its pooled states. `BridgeTowerModel.from_pretrained` loads its checkpoints."""

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        self.bridgetower = BridgeTowerModel(config)
        self.classifier = nn.Linear(2 * config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return (N, num_labels) logits of N texts with N images. Inputs are as for `BridgeTowerModel`."""
        return self.classifier(self.bridgetower(**inputs).pooler_output)


class BlipForClassification(BlipForImageTextRetrieval):
    """BLIP's image-grounded text encoder, with a linear head on its first state instead of the retrieval heads."""

    def __init__(self, config: AnyConfig) -> None:
        super().__init__(config)
        del self.vision_proj, self.text_proj, self.itm_head
        self.classifier = nn.Linear(config.text_config.hidden_size, config.num_labels)
        self.post_init()


@dataclass(frozen=True)
class Head:
    """A class of transformers and the way to read its head."""

    native: type[PreTrainedModel]
    """The class."""
    call: Callable[[Any, dict[str, Tensor]], Tensor]
    """Makes (N,) scores or (N, num_labels) logits of the model and its inputs of N rows."""
    fresh: tuple[str, ...]
    """Prefixes of the parameters that a checkpoint of another task may lack."""


@dataclass(frozen=True)
class Architecture:
    """The way to call one architecture."""

    images: tuple[str, ...]
    """Image columns that it needs."""
    optional_images: tuple[str, ...]
    """Image columns that it may have."""
    score: Head
    """Gives one number for each text and image."""
    classify: Head
    """Gives `num_labels` numbers for each text and image."""
    text: Callable[[PretrainedConfig], PretrainedConfig] = lambda config: config
    """Gives the configuration of the text side."""
    repeat_images: bool = True
    """If true, image columns have a row for each candidate. If false, they have a row for each instance, and `call`
    repeats what it needs to."""


def _match_margin(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]  # log-odds that image and text match


def _blip_state(model: BlipForImageTextRetrieval, inputs: dict[str, Tensor]) -> Tensor:
    # This is the model's own forward with two changes. Each image is encoded once for all its candidates, and the image
    # mask is made on the image's device, not on the CPU.
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
    """Return the architecture of a configuration.

    Raises:
        ValueError: the model type is not among ARCHITECTURES; the message names them.
    """
    if config.model_type not in ARCHITECTURES:
        raise ValueError(
            f"model type {config.model_type!r} is not supported as a student of the tasks; expected one of "
            f"{', '.join(ARCHITECTURES)} (any other nn.Module: give it (B, C, T) texts and (B, C) logits "
            "yourself and cliptd.wrap it with StudentStates)"
        )
    return ARCHITECTURES[config.model_type]


def text_positions(config: PretrainedConfig) -> int:
    """Return the number of tokens that a configuration's text side has positions for."""
    text = architecture_of(config).text(config)
    # RoBERTa counts positions from the one after its padding index.
    reserved = text.pad_token_id + 1 if config.model_type == "bridgetower" else 0
    return text.max_position_embeddings - reserved
