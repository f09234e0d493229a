"""The teacher's own score on VCR, with a teacher that always takes the third choice."""

from types import SimpleNamespace

import pytest
import torch

from cliptd.teachers.teacher import Similarity
from tasks.vcr.data import VcrDataset
from tasks.vcr.teacher_score import score_teacher
from tests.helpers.tiny_vcr import tiny_vcr


class Teacher(Similarity):
    """Embeds an image as the third choice, and each choice as itself."""

    name, batch_size, embed_dim, logit_scale, logit_bias = "t", 3, 4, 10.0, None

    def encode_images(self, images, names):
        return torch.eye(4)[[2] * len(images)]

    def encode_texts(self, texts):
        return torch.eye(4)[[int(text[-1]) for text in texts]]


def texts(examples):
    return [SimpleNamespace(teacher_texts=[f"{one.task} {k}" for k in range(4)]) for one in examples]


def test_a_teacher_chooses_the_sentence_that_fits_the_image_best(tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path), "val")
    found = score_teacher(Teacher(), dataset, texts, 3)
    answers, rationales = (dataset.column(f"{kind}_label")[:3] for kind in ("answer", "rationale"))
    right = [[label == 2 for label in labels] for labels in (answers, rationales)]
    assert found["items"] == 3
    assert found["q_to_a"] == pytest.approx(100 * sum(right[0]) / 3)
    assert found["qa_to_r"] == pytest.approx(100 * sum(right[1]) / 3)
    both = sum(a and r for a, r in zip(*right, strict=True))
    assert found["q_to_ar"] == pytest.approx(100 * both / 3)
    assert 0 < sum(right[0]) + sum(right[1]) < 6
