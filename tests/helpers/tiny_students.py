"""Tiny students of each architecture with random weights, and random batches that fit them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import transformers as tf
from torch import Tensor, nn

VOCABULARY, TOKENS, WIDTH, REGIONS, CLASSES = 40, 7, 16, 5, 3
TEXT = {"vocab_size": VOCABULARY, "max_position_embeddings": 16}
DEPTH = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": WIDTH, "intermediate_size": 24}
IMAGE = {"image_size": 16, "patch_size": 8}


class TwoTower(nn.Module):
    """A plain student: CNN and LSTM, nothing of transformers."""

    def __init__(self):
        super().__init__()
        self.vision = nn.Sequential(nn.Conv2d(3, 12, 3, stride=4), nn.ReLU())
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.text = nn.LSTM(8, 10, batch_first=True, bidirectional=True)
        self.classify = nn.Linear(32, CLASSES)

    def forward(self, input_ids, pixel_values, attention_mask=None, labels=None):
        text, _ = self.text(self.embed(input_ids))
        logits = self.classify(torch.cat([text[:, 0], self.vision(pixel_values).mean((2, 3))], dim=1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


class Choices(nn.Module):
    """Scores C candidates with a base model that sees (B*C, …) rows, as a multiple-choice wrapper does."""

    def __init__(self, base: nn.Module, pooled: Callable, width: int):
        super().__init__()
        self.base, self.pooled = base, pooled
        self.score = nn.Linear(width, 1)

    def forward(self, labels=None, **batch):
        candidates = batch["input_ids"].shape[1]
        output = self.base(**{name: value.flatten(0, 1) for name, value in batch.items()})
        logits = self.score(self.pooled(output)).view(-1, candidates)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return tf.modeling_outputs.MultipleChoiceModelOutput(loss=loss, logits=logits)


def _vilt() -> tf.ViltConfig:
    return tf.ViltConfig(**TEXT, **DEPTH, **IMAGE, num_labels=CLASSES)


def _visual_bert() -> tf.VisualBertConfig:
    return tf.VisualBertConfig(**TEXT, **DEPTH, visual_embedding_dim=6, num_labels=CLASSES)


def _lxmert() -> tf.LxmertConfig:
    depth = {key: value for key, value in DEPTH.items() if key != "num_hidden_layers"}
    return tf.LxmertConfig(
        **TEXT, **depth, l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=6, num_qa_labels=CLASSES
    )


def _bridgetower() -> tf.BridgeTowerConfig:
    vision = {"hidden_size": 64, "num_hidden_layers": 2, **IMAGE}  # its heads are always 64 wide
    text = {**TEXT, **DEPTH, "hidden_size": 64, "max_position_embeddings": 20}
    return tf.BridgeTowerConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, vision_config=vision, text_config=text
    )


def _flava() -> tf.FlavaConfig:
    return tf.FlavaConfig(
        text_config={**TEXT, **DEPTH},
        image_config={**DEPTH, **IMAGE},
        multimodal_config=DEPTH,
        hidden_size=WIDTH,
        projection_dim=WIDTH,
    )


def _blip() -> tf.BlipConfig:
    special = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    text = {**TEXT, **DEPTH, **special}
    vision = {**DEPTH, **IMAGE, "initializer_range": 0.02}
    return tf.BlipConfig(text_config=text, vision_config=vision, projection_dim=8, image_text_hidden_size=8)


@dataclass(frozen=True)
class Tiny:
    """One architecture: config, base model, task head (None: none that classifies), image input kind."""

    config: Callable
    base: type
    head: type | None
    regions: bool
    width: int = WIDTH


TINY = {
    "vilt": Tiny(_vilt, tf.ViltModel, tf.ViltForQuestionAnswering, regions=False),
    "visual_bert": Tiny(_visual_bert, tf.VisualBertModel, tf.VisualBertForMultipleChoice, regions=True),
    "lxmert": Tiny(_lxmert, tf.LxmertModel, tf.LxmertForQuestionAnswering, regions=True),
    "bridgetower": Tiny(_bridgetower, tf.BridgeTowerModel, tf.BridgeTowerForImageAndTextRetrieval, False, 64),
    "flava": Tiny(_flava, tf.FlavaModel, None, regions=False),
    "blip": Tiny(_blip, tf.BlipForQuestionAnswering, tf.BlipForQuestionAnswering, regions=False),
}


def tiny_base(name: str, seed: int = 0) -> nn.Module:
    """The base model (for BLIP, which has none that fuses, the question-answering model), in eval mode."""
    torch.manual_seed(seed)
    return TINY[name].base(TINY[name].config()).eval()


def tiny_choices(name: str, seed: int = 0) -> Choices:
    """A multiple-choice student over the base model, in eval mode."""
    pooled = {
        "lxmert": lambda output: output.pooled_output,
        "bridgetower": lambda output: output.text_features[:, 0],
        "flava": lambda output: output.multimodal_embeddings[:, 0],
        "blip": lambda output: output.question_embeds[:, 0],
    }.get(name, lambda output: output.pooler_output)
    base = tf.BlipForImageTextRetrieval(_blip()) if name == "blip" else tiny_base(name, seed)
    torch.manual_seed(seed + 1)
    return Choices(base, pooled, TINY[name].width).eval()


def tiny_head(name: str, seed: int = 0) -> nn.Module:
    """The model with transformers' own task head, in eval mode."""
    torch.manual_seed(seed)
    return TINY[name].head(TINY[name].config()).eval()


def tiny_batch(name: str, batch: int = 4, candidates: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random model inputs: text (N, T) with padding, and an image each.

    Args:
        name: a key of TINY, or "two_tower".
        batch: B.
        candidates: None for plain rows (N = B); C for (B, C, …) inputs, the image repeated for each
            candidate.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = batch * (candidates or 1)
    lengths = torch.randint(3, TOKENS + 1, (rows,), generator=generator)
    lengths[0] = TOKENS
    inputs = {
        "input_ids": torch.randint(4, VOCABULARY, (rows, TOKENS), generator=generator),
        "attention_mask": (torch.arange(TOKENS) < lengths[:, None]).long(),
    }
    if name in TINY and TINY[name].regions:
        seen = torch.randint(2, REGIONS + 1, (batch,), generator=generator)
        mask = (torch.arange(REGIONS) < seen[:, None]).long()
        features = torch.randn(batch, REGIONS, 6, generator=generator)
        keys = ("visual_feats", "visual_pos") if name == "lxmert" else ("visual_embeds", None)
        image = {keys[0]: features, "visual_attention_mask": mask}
        if keys[1]:
            image[keys[1]] = torch.rand(batch, REGIONS, 4, generator=generator)
    else:
        image = {"pixel_values": torch.randn(batch, 3, 16, 16, generator=generator)}
    for key, value in image.items():
        inputs[key] = value.repeat_interleave(candidates or 1, dim=0)
    if candidates:
        inputs = {key: value.unflatten(0, (batch, candidates)) for key, value in inputs.items()}
    return inputs


def tiny_labels(name: str, batch: int = 4, classes: int = CLASSES, seed: int = 0) -> Tensor:
    """Labels that the task head of `name` computes its loss from."""
    generator = torch.Generator().manual_seed(seed + 100)
    hard = torch.randint(0, classes, (batch,), generator=generator)
    if name == "vilt":  # soft labels
        return nn.functional.one_hot(hard, classes).float()
    if name == "bridgetower":
        return hard % 2
    if name == "blip":  # an answer to generate
        return torch.randint(4, VOCABULARY, (batch, 3), generator=generator)
    return hard


def tiny_columns(
    batch: int = 4, candidates: int = 1, width: int = 8, tokens: int = TOKENS, seed: int = 0
) -> dict[str, Tensor]:
    """Random teacher columns as a DistillationCollator gives them: two one-token words of each text kept."""
    generator = torch.Generator().manual_seed(seed + 200)

    def unit(*shape: int) -> Tensor:
        return nn.functional.normalize(torch.randn(*shape, width, generator=generator), dim=-1)

    image, texts = unit(batch), unit(batch, candidates)
    word_ids = torch.full((batch, candidates, tokens), -1)
    word_ids[..., 1], word_ids[..., 2] = 0, 1
    return {
        "teacher_image_embeds": image,
        "teacher_text_embeds": texts,
        "teacher_word_embeds": unit(batch, candidates, 2),
        "teacher_word_mask": torch.ones(batch, candidates, 2, dtype=torch.bool),
        "teacher_word_ids": word_ids,
        "teacher_match": 10.0 * torch.einsum("bce,be->bc", texts, image),
    }
