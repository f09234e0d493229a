"""Training on reinforced data (MobileCLIP, arXiv 2311.17049): on the crops that the teachers saw, without a teacher."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from cliptd.data.augmentation import replay
from cliptd.data.bad_samples import BadSample, BadSampleList
from cliptd.data.identity import identity_of
from cliptd.data.pairs.pair import OnBadSample
from cliptd.embedding import losses
from cliptd.embedding.collator import StudentReader
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import student_identity
from cliptd.embedding.distiller import StudentInTraining
from cliptd.embedding.inheritance.towers import OpenClipModel
from cliptd.embedding.options import Tower
from cliptd.embedding.pruning.masked_model import MaskedDualEncoder
from cliptd.embedding.student import Student
from cliptd.embedding.student_run import Evaluate, train_student
from cliptd.reinforcement.dataset import Reinforced, ReinforcedDataset, ReinforcementCard
from cliptd.training import TrainingResult


@dataclass(frozen=True)
class ReinforcedExample:
    """One augmentation and one synthetic caption of a sample, with the teachers' embeddings of them, (Σ dims,) each."""

    image: Image.Image
    text: str
    caption: str | None
    image_embed: Tensor
    text_embed: Tensor
    caption_embed: Tensor | None


class ReinforcedExamples:
    """A map-style data set of one stored augmentation, replayed, and one stored caption of each sample.

    torch's generator chooses them. The training loop seeds it for each example.

    size: the height and width of the student's input in pixels. captions: If true, use synthetic captions if the data
    has them. on_bad_sample: "raise" at a sample that cannot be read, or "skip": return a `BadSample`.
    """

    def __init__(
        self,
        dataset: ReinforcedDataset,
        size: int,
        *,
        captions: bool = True,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.dataset, self.size, self.captions, self.on_bad_sample = dataset, size, captions, on_bad_sample

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ReinforcedExample | BadSample:
        chosen = torch.rand(2).tolist()  # before anything can fail
        try:
            sample = self.dataset[index]
            captions = self._captions(sample)
            augmentation = int(chosen[0] * len(sample.augmentations))
            caption = int(chosen[1] * len(captions)) if captions else None
            embeds = {"image": sample.image_embeds[augmentation], "text": sample.text_embeds[0]}
            if caption is not None:
                embeds["caption"] = sample.text_embeds[1 + caption]
            for name, row in embeds.items():
                if not np.isfinite(row).all():
                    raise ValueError(
                        f"{sample.key}: a teacher's {name} embedding is not finite (NaN or inf); reinforce it again"
                    )
            crop = replay(
                sample.image(),
                sample.augmentations[augmentation],
                self.size,
                drawn_at=self.dataset.card.policy.size,
            )
        except (ValueError, OSError) as error:
            if self.on_bad_sample == "raise":
                raise
            return BadSample(str(error))
        tensors = {name: torch.from_numpy(row.astype(np.float32)) for name, row in embeds.items()}
        return ReinforcedExample(
            crop,
            sample.text,
            None if caption is None else captions[caption],
            tensors["image"],
            tensors["text"],
            tensors.get("caption"),
        )

    def _captions(self, sample: Reinforced) -> Sequence[str]:
        """Return a sample's captions, or none if the card promises none or captions are off.

        All samples must agree, because all processes must call the text tower equally often.
        """
        if not self.captions or not self.dataset.card.captions:
            return ()
        if not sample.captions:
            raise ValueError(
                f"{sample.key}: has no synthetic caption, but the card promises {self.dataset.card.captions}; skip "
                "such samples, or train without synthetic captions"
            )
        return sample.captions


class ReinforcedCollator:
    """Turns examples into the columns of `ReinforcedDistiller.forward`, by the student's transform and tokenizer.

    Raises:
        ValueError: from a call, if no example of a batch could be read.
    """

    def __init__(self, student: StudentReader) -> None:
        self.student, self.bad_samples = student, BadSampleList()

    def __call__(self, examples: Sequence[ReinforcedExample | BadSample], /) -> dict[str, Tensor]:
        """Return the columns of a batch."""
        good: list[ReinforcedExample] = self.bad_samples.good(examples)
        columns = {
            "pixel_values": torch.stack([self.student.image_transform(example.image) for example in good]),
            "input_ids": self.student.tokenize([example.text for example in good]),
            "teacher_image": torch.stack([example.image_embed for example in good]),
            "teacher_text": torch.stack([example.text_embed for example in good]),
        }
        captions = [example.caption for example in good if example.caption is not None]
        if captions:  # all examples have one, or none
            columns["caption_ids"] = self.student.tokenize(captions)
            columns["teacher_caption"] = torch.stack(
                [example.caption_embed for example in good if example.caption_embed is not None]
            )
        return columns


class ReinforcedDistiller(StudentInTraining):
    """A student that learns from reinforced data.

    The loss is `losses.reinforced_contrastive` of the texts plus that of the synthetic captions.

    Args:
        student: an open_clip model.
        card: describes the data; the teachers' widths and logit scales are read from it.
        distill_weight: λ. In the paper it is 1 for small students and 0.75 for a ViT-B.
        frozen: towers that are not trained.
    """

    def __init__(
        self,
        student: OpenClipModel | MaskedDualEncoder,
        card: ReinforcementCard,
        *,
        distill_weight: float = 1.0,
        frozen: tuple[Tower, ...] = (),
    ) -> None:
        super().__init__(student, frozen=frozen)
        self.card, self.distill_weight = card, distill_weight

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        teacher_image: Tensor,
        teacher_text: Tensor,
        caption_ids: Tensor | None = None,
        teacher_caption: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return {"loss"}, the loss of a batch, a scalar.

        Args:
            pixel_values: (pairs, 3, height, width) of replayed crops.
            input_ids: (pairs, tokens) of the texts.
            teacher_image, teacher_text, teacher_caption: (pairs, Σ dims) embeddings of the teachers.
            caption_ids: (pairs, tokens) of synthetic captions.
        """
        self.clamp_logit_scale()
        image = self.student.encode_image(pixel_values)
        texts = input_ids if caption_ids is None else torch.cat([input_ids, caption_ids])
        encoded = self.student.encode_text(texts).split(len(image))  # one forward for texts and captions
        of_texts = {"text": (encoded[0], teacher_text)}
        if caption_ids is not None and teacher_caption is not None:
            of_texts["caption"] = (encoded[1], teacher_caption)
        loss, self.last_terms = image.new_zeros(()), {}
        for name, (text, of_teacher) in of_texts.items():
            term = losses.reinforced_contrastive(
                student_image=image,
                student_text=text,
                teacher_image=teacher_image.split(self.card.embed_dims, dim=1),
                teacher_text=of_teacher.split(self.card.embed_dims, dim=1),
                student_scale=self.student.logit_scale.exp(),
                teacher_scales=self.card.logit_scales,
                distill_weight=self.distill_weight,
            )
            loss, self.last_terms[name] = loss + term, term.detach()
        return {"loss": loss}


def distil_reinforced(
    student: Student,
    dataset: ReinforcedDataset,
    settings: Distillation,
    *,
    run_dir: Path,
    evaluate: Evaluate,
    accelerator: Accelerator,
    metric_names: Mapping[str, str] | None = None,
) -> TrainingResult:
    """Train the student on a reinforced dataset, without a teacher. Everything else is as in `distil`."""
    size = student.image_transform(Image.new("RGB", (16, 16))).shape[-1]
    described = {
        **student_identity(student),
        "data": identity_of(dataset),
        "card": json.loads(dataset.card.to_json()),
        "objective": settings.objective,
        "distill_weight": settings.distill_weight,
        "synthetic_captions": settings.synthetic_captions,
        "freeze": list(settings.freeze),
        "on_bad_sample": settings.on_bad_sample,
    }
    return train_student(
        ReinforcedDistiller(
            student.encoder, dataset.card, distill_weight=settings.distill_weight, frozen=settings.freeze
        ),
        student,
        ReinforcedExamples(
            dataset, size, captions=settings.synthetic_captions, on_bad_sample=settings.on_bad_sample
        ),
        ReinforcedCollator(student),
        settings.training,
        run_dir=run_dir,
        evaluate=evaluate,
        accelerator=accelerator,
        settings=described,
        bad=dataset.skipped,
        metric_names=metric_names,
    )
