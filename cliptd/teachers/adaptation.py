"""Teacher adaptation: contrastive fine-tuning of an open_clip teacher on the task's own image–text pairs.

Optional, before anything is stored (methods.md §1, ours): a low learning rate and few steps, so that the
teacher learns the task's words without forgetting the rest. What comes out is an ordinary open_clip folder.
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
    """Contrastive loss of N pairs of which some share their text or image; a scalar.

    CLIP: ½ [CE(P, s·Î T̂ᵀ) + CE(Pᵀ, s·T̂ Îᵀ)], each row of the target P uniform over the row's positives.
    With one positive a row it is CLIP's own loss. With a `logit_bias` SigLIP's: −1/N Σ log σ(±(s·Î T̂ᵀ + b)).

    Args:
        image_embeds, text_embeds: (pairs, dim), normalised or not.
        positives: (pairs, pairs) bool, [i, j] = text j is true of image i; True on the diagonal (see
            `positive_pairs`).
        logit_scale: multiplies the cosine.
        logit_bias: of a SigLIP.

    >>> same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # two copies of one pair: nothing left to tell apart
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
    """(n, m) bool: image i is of pair i, text j of pair j, and the two pairs share their image or their text.

    Args:
        image_ids, text_ids: (n,) int64 each, equal for equal images or texts.
    """
    return (image_ids[:, None] == image_ids) | (text_ids[:, None] == text_ids)


def identity(name: str) -> int:
    """A 63-bit number that is the same for the same string on every machine and process."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


class ContrastiveAdapter(nn.Module):
    """A trainable float32 copy of a teacher's model whose forward returns {"loss"}, for
    `cliptd.training.train`.

    The loss is that of the batch gathered over all processes; it cannot be accumulated over micro-batches.
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
    """Fine-tune a copy of `teacher` on `pairs`; resumes, logs and checkpoints as `cliptd.training.train`
    does.

    Args:
        teacher: an open_clip teacher; it stays as it is.
        pairs: image–text pairs of the task's training set, opened when they are needed.
        config: see `adaptation_defaults`. Its `metric` is "recall_at_1" or "recall_at_1_texts" where there
            are validation pairs.
        run_dir: log and checkpoints.
        validation: pairs of other images, which choose the best weights; without them the last weights stay.

    Returns: the adapted teacher, frozen, in float32; keep it with `save_open_clip`.
    Raises: TypeError for a teacher that is not an open_clip one; ValueError for no pairs or for accumulation.
    """
    if not isinstance(teacher, OpenClipTeacher):
        raise TypeError(f"found a {type(teacher).__name__}; only an open_clip teacher can be adapted")
    if not len(pairs):
        raise ValueError("there are no image–text pairs to adapt the teacher to")
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
    """Pairs → the columns of `ContrastiveAdapter.forward`, by the teacher's own transform and tokenizer."""

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
    """Percent of images whose nearest text is true of them, and of texts whose nearest image fits them."""
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
