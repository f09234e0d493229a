"""Teacher adaptation: contrastive fine-tuning of an open_clip teacher on the task's own image–text pairs.

It is optional and comes before anything is stored. A low learning rate and few steps let the teacher learn the task's
words without forgetting the rest. The adapted teacher is saved as an ordinary open_clip folder.
"""

import copy
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from cliptd.data.images import open_image
from cliptd.data.map_style import MapStyle
from cliptd.data.pairs.pair import Pair
from cliptd.teachers.from_open_clip import OpenClipTeacher, as_teacher
from cliptd.teachers.teacher import MAX_LOGIT_SCALE
from cliptd.training import TrainingConfig, train
from cliptd.utils.distributed import gather, gather_with_gradient


def contrastive_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    positives: Tensor,
    logit_scale: Tensor | float,
    logit_bias: Tensor | None = None,
) -> Tensor:
    """Return the contrastive loss of N pairs, a scalar. Some pairs may share their text or their image.

    CLIP: ½ [CE(P, s·Î T̂ᵀ) + CE(Pᵀ, s·T̂ Îᵀ)], where each row of the target P is uniform over the row's positives.
    With one positive in each row this is CLIP's own loss (arXiv 2103.00020). With a `logit_bias` it is SigLIP's
    (arXiv 2303.15343): −1/N Σ log σ(±(s·Î T̂ᵀ + b)).

    Args:
        image_embeds, text_embeds: (pairs, dim), normalised or not.
        positives: (pairs, pairs) bool, true at [i, j] if text j is true of image i, so also on the diagonal; see
            `positive_pairs`.
        logit_scale: s, the factor of the cosine.
        logit_bias: b, which only a SigLIP has.

    >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # two copies of one pair
    >>> round(contrastive_loss(same, same, torch.ones(2, 2, dtype=torch.bool), 10.0).item(), 4)  # log 2
    0.6931
    """
    logits = logit_scale * F.normalize(image_embeds, dim=-1) @ F.normalize(text_embeds, dim=-1).T
    if logit_bias is not None:
        signs = positives.to(logits.dtype) * 2 - 1
        return -F.logsigmoid(signs * (logits + logit_bias)).sum() / len(logits)
    target = positives.to(logits.dtype)
    to_texts = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    to_images = F.cross_entropy(logits.T, (target / target.sum(0)).T)
    return (to_texts + to_images) / 2


def positive_pairs(image_ids: Tensor, text_ids: Tensor) -> Tensor:
    """Return (n, n) bool, true at [i, j] if pairs i and j share their image or their text.

    Args:
        image_ids, text_ids: (n,) int64 each. Equal images have equal ids, and so have equal texts.
    """
    return (image_ids[:, None] == image_ids) | (text_ids[:, None] == text_ids)


def identity(name: str) -> int:
    """Return a 63-bit number of a string, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


class ContrastiveAdapter(nn.Module):
    """A trainable float32 copy of a teacher's model whose forward returns {"loss"}, for `cliptd.training.train`.

    The loss is over the batch of all processes, so it cannot be accumulated over micro-batches.
    """

    couples_batch = True
    couples_batch_why = "the contrastive loss compares every image with every text of the batch"

    def __init__(self, teacher: OpenClipTeacher):
        super().__init__()
        self.model = copy.deepcopy(teacher.model).float().requires_grad_(True)

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, image_ids: Tensor, text_ids: Tensor
    ) -> dict[str, Tensor]:
        self.clamp_logit_scale()
        image_embeds = gather_with_gradient(F.normalize(self.model.encode_image(pixel_values), dim=-1))
        text_embeds = gather_with_gradient(F.normalize(self.model.encode_text(input_ids), dim=-1))
        positives = positive_pairs(gather(image_ids), gather(text_ids))
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        return {"loss": contrastive_loss(image_embeds.float(), text_embeds.float(), positives, scale, bias)}

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the logit scale at 100 or less, as CLIP's authors do."""
        self.model.logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))


def adapt_teacher(
    teacher: OpenClipTeacher,
    pairs: MapStyle[Pair],
    config: TrainingConfig,
    *,
    run_dir: str | Path,
    validation: MapStyle[Pair] = (),
    accelerator: Accelerator | None = None,
) -> OpenClipTeacher:
    """Fine-tune a copy of the teacher. It resumes, logs and writes checkpoints as `cliptd.training.train` does.

    Args:
        teacher: an open_clip teacher, which is not changed.
        pairs: image–text pairs of the task's training set. An image is opened when it is needed.
        config: see `adaptation_defaults`. With validation pairs its `metric` is "recall_at_1" or "recall_at_1_texts".
        run_dir: the folder of the log and the checkpoints.
        validation: pairs of other images, which choose the best weights. Without them the last weights are kept.

    Returns:
        The adapted teacher, frozen, in float32. Save it with `save_open_clip`.

    Raises:
        TypeError: the teacher is not an open_clip one.
        ValueError: there are no pairs, or the configuration asks for accumulation.
    """
    if not isinstance(teacher, OpenClipTeacher):
        raise TypeError(
            f"the teacher is a {type(teacher).__name__}, expected an open_clip teacher; only these can be adapted"
        )
    if not len(pairs):
        raise ValueError("pairs is empty, expected image–text pairs to adapt the teacher to")
    adapter = ContrastiveAdapter(teacher)
    train(
        adapter,
        pairs,
        PairCollator(teacher),
        config,
        run_dir=run_dir,
        evaluate=(lambda _: _recall(adapter, teacher, validation)) if len(validation) else None,
        accelerator=accelerator,
        settings={"teacher": teacher.fingerprint},
    )
    adapter.clamp_logit_scale()
    model = adapter.model.cpu()
    name = f"{teacher.name}, adapted"
    return as_teacher(model, teacher.tokenizer, teacher.config["model_cfg"], name, teacher.batch_size)


class PairCollator:
    """Makes pairs into the columns of `ContrastiveAdapter.forward`, with the teacher's own transform and tokenizer."""

    def __init__(self, teacher: OpenClipTeacher):
        self.open, self.tokenize = teacher.pixels, teacher.tokenize

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        opened = [open_image(pair.image) for pair in pairs]
        return {
            "pixel_values": self.open(opened, [pair.key for pair in pairs]),
            "input_ids": self.tokenize([pair.text for pair in pairs]),
            "image_ids": torch.tensor([identity(pair.key) for pair in pairs]),
            "text_ids": torch.tensor([identity(pair.text) for pair in pairs]),
        }


@torch.no_grad()
def _recall(adapter: ContrastiveAdapter, teacher: OpenClipTeacher, pairs: MapStyle[Pair]) -> dict[str, float]:
    """Return the percentage of images whose nearest text is a positive, and the same of texts and their images."""
    collate = PairCollator(teacher)
    device = next(adapter.parameters()).device
    columns: dict[str, list[Tensor]] = {"images": [], "texts": [], "image_ids": [], "text_ids": []}
    for start in range(0, len(pairs), teacher.batch_size):
        batch = collate([pairs[i] for i in range(start, min(start + teacher.batch_size, len(pairs)))])
        columns["images"].append(
            F.normalize(adapter.model.encode_image(batch["pixel_values"].to(device)), dim=-1)
        )
        columns["texts"].append(F.normalize(adapter.model.encode_text(batch["input_ids"].to(device)), dim=-1))
        columns["image_ids"].append(batch["image_ids"])
        columns["text_ids"].append(batch["text_ids"])
    images, texts, image_ids, text_ids = (torch.cat(parts).cpu() for parts in columns.values())
    cosine, positives, rows = (
        images.float() @ texts.float().T,
        positive_pairs(image_ids, text_ids),
        range(len(pairs)),
    )
    return {
        "recall_at_1": 100 * positives[rows, cosine.argmax(1)].float().mean().item(),
        "recall_at_1_texts": 100 * positives[cosine.argmax(0), rows].float().mean().item(),
    }
