"""How six architectures of transformers are called to score a candidate text with an image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import (
    BlipForImageTextRetrieval,
    BridgeTowerForImageAndTextRetrieval,
    FlavaModel,
    FlavaPreTrainedModel,
    LxmertForQuestionAnswering,
    PretrainedConfig,
    PreTrainedModel,
    ViltForImageAndTextRetrieval,
    VisualBertForMultipleChoice,
)


class FlavaForImageTextScore(FlavaPreTrainedModel):
    """FLAVA with a linear head on its multimodal CLS state; `FlavaModel.from_pretrained` loads what it
    saves."""

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.flava = FlavaModel(config)
        self.score = nn.Linear(config.multimodal_config.hidden_size, 1)
        self.post_init()

    def forward(self, **inputs: Tensor) -> Tensor:
        """Scores (N, 1) of N texts with N images; inputs as for `FlavaModel`."""
        return self.score(self.flava(**inputs).multimodal_embeddings[:, 0])


@dataclass(frozen=True)
class Architecture:
    """How one architecture is called.

    native: class with a score per image and text.
    score: the model and its inputs, flattened to N = B * C rows → (N,).
    images, optional_images: the image columns it needs and those it may have.
    head: prefixes of the parameters that a checkpoint of another task may lack.
    text: its configuration of the text side.
    repeat_images: image columns have a row per candidate; False: one per instance, and `score` repeats what
        it must.
    """

    native: type[PreTrainedModel]
    score: Callable[[PreTrainedModel, dict[str, Tensor]], Tensor]
    images: tuple[str, ...]
    optional_images: tuple[str, ...]
    head: tuple[str, ...]
    text: Callable[[PretrainedConfig], PretrainedConfig] = lambda config: config
    repeat_images: bool = True


def _match_margin(logits: Tensor) -> Tensor:
    return logits[:, 1] - logits[:, 0]  # log-odds that image and text match


def _score_blip(model: BlipForImageTextRetrieval, inputs: dict[str, Tensor]) -> Tensor:
    # As the model's own forward, but each image is encoded once for all its candidates, and the image mask is
    # made on the image's device (the model's own forward makes it on the CPU).
    image_states = model.vision_model(pixel_values=inputs.pop("pixel_values")).last_hidden_state
    image_states = image_states.repeat_interleave(len(inputs["input_ids"]) // len(image_states), dim=0)
    image_mask = image_states.new_ones(image_states.shape[:-1], dtype=torch.long)
    text = model.text_encoder(encoder_hidden_states=image_states, encoder_attention_mask=image_mask, **inputs)
    return _match_margin(model.itm_head(text.last_hidden_state[:, 0]))


def _score_visual_bert(model: VisualBertForMultipleChoice, inputs: dict[str, Tensor]) -> Tensor:
    # The native head takes (batch, choices, tokens): each row is an instance of one choice.
    text = {name: inputs.pop(name).unsqueeze(1) for name in TEXT_COLUMNS if name in inputs}
    return model(**text, **inputs).logits[:, 0]


TEXT_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")
PIXELS = ("pixel_values",)
ARCHITECTURES = {
    "vilt": Architecture(
        ViltForImageAndTextRetrieval,
        lambda m, x: m(**x).logits[:, 0],
        PIXELS,
        ("pixel_mask",),
        ("rank_output",),
    ),
    "visual_bert": Architecture(
        VisualBertForMultipleChoice,
        _score_visual_bert,
        ("visual_embeds",),
        ("visual_attention_mask", "visual_token_type_ids", "image_text_alignment"),
        ("cls", "visual_bert.embeddings.visual_projection"),
    ),
    "lxmert": Architecture(
        LxmertForQuestionAnswering,
        lambda m, x: m(**x).question_answering_score[:, 0],
        ("visual_feats", "visual_pos"),
        ("visual_attention_mask",),
        ("answer_head", "lxmert.encoder.visn_fc.visn_fc"),
    ),
    "bridgetower": Architecture(
        BridgeTowerForImageAndTextRetrieval,
        lambda m, x: _match_margin(m(**x).logits),
        PIXELS,
        ("pixel_mask",),
        ("itm_score",),
        lambda config: config.text_config,
    ),
    "flava": Architecture(
        FlavaForImageTextScore,
        lambda m, x: m(**x)[:, 0],
        PIXELS,
        (),
        ("score",),
        lambda config: config.text_config,
    ),
    "blip": Architecture(
        BlipForImageTextRetrieval,
        _score_blip,
        PIXELS,
        (),
        ("itm_head", "vision_proj", "text_proj"),
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
            f"model type {config.model_type!r} is not supported as a VCR student; expected one of "
            f"{', '.join(ARCHITECTURES)} (any other nn.Module: give it (B, C, T) texts and (B, C) logits "
            "yourself and cliptd.wrap it with StudentStates)"
        )
    return ARCHITECTURES[config.model_type]
