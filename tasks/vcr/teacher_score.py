"""The score of a teacher on VCR without any training: it chooses the sentence that fits the image best."""

from collections.abc import Sequence

import numpy as np
import torch

from cliptd.store.source import encode_images
from cliptd.teachers.ensemble import TeacherEnsemble
from cliptd.teachers.teacher import Teacher
from tasks.vcr.data import VcrDataset, VcrExample
from tasks.vcr.metric import vcr_metrics
from tasks.vcr.texts import ChoiceTexts


def score_teacher(
    teacher: Teacher | TeacherEnsemble, dataset: VcrDataset, texts: ChoiceTexts, limit: int
) -> dict[str, float]:
    """Return q_to_a, qa_to_r, q_to_ar and mean in percent, and items, of the first `limit` items.

    The teacher takes the most probable choice: the softmax of its logits of the image with the four choices.

    Raises:
        ValueError: the items have no labels.
    """
    positions = range(dataset.num_items)[:limit]
    answers = _matches(teacher, [dataset.example(k, "q_to_a") for k in positions], texts)
    rationales = _matches(teacher, [dataset.example(k, "qa_to_r") for k in positions], texts)
    labels = [dataset.column(f"{kind}_label")[:limit] for kind in ("answer", "rationale")]
    found = vcr_metrics(answers, rationales, *labels)
    return {**found, "mean": (found["q_to_a"] + found["qa_to_r"]) / 2, "items": len(positions)}


def _matches(
    teacher: Teacher | TeacherEnsemble, examples: Sequence[VcrExample], texts: ChoiceTexts
) -> np.ndarray:
    """Return (examples, 4) probabilities that the whole image and each choice belong together."""
    first = {example.image_key: k for k, example in enumerate(examples)}
    images = encode_images(teacher, list(first), [examples[k].image for k in first.values()])
    row = {key: number for number, key in enumerate(first)}
    own = images[[row[example.image_key] for example in examples]]
    sentences = [sentence for encoded in texts(examples) for sentence in encoded.teacher_texts]
    embeds = torch.cat(
        [
            teacher.encode_texts(sentences[k : k + teacher.batch_size]).cpu()
            for k in range(0, len(sentences), teacher.batch_size)
        ]
    )
    return teacher.match_probability(own, embeds.view(len(examples), -1, embeds.shape[1])).numpy()
