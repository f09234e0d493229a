"""Confidence weights and the teacher's probability, against hand-computed numbers."""

import math

import pytest
import torch

from cliptd.targeted import confidence_weights, teacher_probability


def test_ratio_by_hand():
    weights = confidence_weights(
        torch.tensor([0.9, 0.2, 0.5]), torch.tensor([0.3, 0.8, 0.0]), eps=1e-9, max_ratio=4.0, normalise=False
    )
    assert weights.tolist() == pytest.approx([3.0, 0.25, 4.0], rel=1e-6)  # the last is capped
    flat = confidence_weights(
        torch.tensor([0.9, 0.2, 0.5]),
        torch.tensor([0.3, 0.8, 0.0]),
        eps=1e-9,
        max_ratio=4.0,
        temperature=2.0,
        normalise=False,
    )
    assert flat.tolist() == pytest.approx([math.sqrt(3), 0.5, 2.0], rel=1e-6)


def test_normalised_weights_have_mean_one():
    weights = confidence_weights(torch.tensor([0.9, 0.2, 0.5]), torch.tensor([0.3, 0.8, 0.25]), eps=1e-12)
    total = 3 + 0.25 + 2
    assert weights.tolist() == pytest.approx([3 * 3 / total, 3 * 0.25 / total, 3 * 2 / total])


def test_eps_keeps_weights_finite_and_above_zero():
    weights = confidence_weights(torch.zeros(3), torch.zeros(3))
    assert weights.tolist() == pytest.approx([1.0, 1.0, 1.0])
    weights = confidence_weights(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), max_ratio=10, eps=0.01)
    assert weights.tolist() == pytest.approx(
        [2 * 10 / (10 + 0.01 / 1.01), 2 * 0.01 / 1.01 / (10 + 0.01 / 1.01)]
    )


def test_teacher_and_constant_need_no_student():
    probability = torch.tensor([0.9, 0.3])
    assert confidence_weights(probability, mode="teacher", eps=1e-12).tolist() == pytest.approx([1.5, 0.5])
    assert confidence_weights(probability, mode="constant").tolist() == [1.0, 1.0]


def test_no_gradient_flows_through_weights():
    student = torch.tensor([0.4, 0.6], requires_grad=True)
    teacher = torch.tensor([0.5, 0.5], requires_grad=True)
    assert not confidence_weights(teacher, student).requires_grad


def test_mean_is_over_the_gathered_batch():
    teacher, student = torch.tensor([0.9, 0.2, 0.5, 0.4]), torch.tensor([0.3, 0.8, 0.25, 0.4])
    whole = confidence_weights(teacher, student)
    raw = confidence_weights(teacher, student, normalise=False)
    for part in (slice(0, 2), slice(2, 4)):
        split = confidence_weights(teacher[part], student[part], gather=lambda _: raw)
        assert torch.allclose(split, whole[part])


def test_weight_errors():
    probability = torch.rand(3)
    with pytest.raises(ValueError, match="mode is 'best'; expected one of 'ratio'"):
        confidence_weights(probability, mode="best")
    with pytest.raises(ValueError, match='mode "ratio" needs student_probability'):
        confidence_weights(probability)
    with pytest.raises(ValueError, match=r"student_probability has shape \(2,\); expected \(3,\)"):
        confidence_weights(probability, probability[:2])


def embeds(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_over_candidates_is_the_softmax_at_the_label():
    match = torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    found = teacher_probability(match, embeds(2, 4), embeds(2, 3, 4), labels=torch.tensor([1, 2]))
    expected = math.exp(2) / (math.exp(1) + math.exp(2) + 1)
    assert found.tolist() == pytest.approx([expected, 1 / 3])


def softmax_at_own(images, texts, scale):
    """Float64 loop: softmax over texts of scale times cosine, at the row's own; equal texts count once."""
    found = []
    for i, image in enumerate(images.double()):
        others = [j for j in range(len(texts)) if j == i or not torch.equal(texts[j], texts[i])]
        terms = {
            j: math.exp(scale * float(image @ texts[j].double() / image.norm() / texts[j].double().norm()))
            for j in others
        }
        found.append(terms[i] / sum(terms.values()))
    return found


def test_over_the_batch_is_the_contrastive_softmax():
    images, texts = embeds(5, 6), embeds(5, 1, 6, seed=1)
    texts[3] = texts[0]  # the same text twice is no rival of itself
    found = teacher_probability(torch.zeros(5, 1), images, texts, logit_scale=3.0)
    assert found.tolist() == pytest.approx(softmax_at_own(images, texts[:, 0], 3.0), rel=1e-4)


def test_over_the_batch_takes_the_right_candidate():
    images, texts, labels = embeds(5, 6), embeds(5, 4, 6, seed=1), torch.tensor([0, 3, 1, 2, 2])
    found = teacher_probability(
        torch.zeros(5, 4), images, texts, labels=labels, logit_scale=3.0, over="batch"
    )
    assert found.tolist() == pytest.approx(softmax_at_own(images, texts[range(5), labels], 3.0), rel=1e-4)


def test_over_the_batch_gathers_the_texts():
    images, texts = embeds(6, 4), embeds(6, 1, 4, seed=1)
    whole = teacher_probability(torch.zeros(6, 1), images, texts, logit_scale=2.0)
    own = torch.nn.functional.normalize(texts[:, 0], dim=-1)
    for part in (slice(0, 3), slice(3, 6)):
        split = teacher_probability(
            torch.zeros(3, 1), images[part], texts[part], logit_scale=2.0, gather=lambda _: own
        )
        assert torch.allclose(split, whole[part], atol=1e-6)


def test_a_sigmoid_teacher_gives_its_own_probability_of_the_pair():
    match = torch.tensor([[0.5], [-2.0]])
    found = teacher_probability(match, embeds(2, 4), embeds(2, 1, 4), sigmoid=True)
    assert found.tolist() == pytest.approx([1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(2))])


def test_several_candidates_need_labels():
    with pytest.raises(ValueError, match="confidence weights with 4 candidates need labels"):
        teacher_probability(torch.zeros(2, 4), embeds(2, 3), embeds(2, 4, 3))
    with pytest.raises(ValueError, match=r"labels have shape \(2, 1\); expected \(2,\)"):
        teacher_probability(
            torch.zeros(2, 4), embeds(2, 3), embeds(2, 4, 3), labels=torch.zeros(2, 1, dtype=torch.long)
        )


def test_rivals_of_a_single_candidate_are_its_softmax():
    match, rivals = (
        torch.tensor([[2.0], [0.0], [1.0]]),
        torch.tensor([[1.0, 0.0], [3.0, -torch.inf], [-torch.inf] * 2]),
    )
    images, texts = embeds(3, 4), embeds(3, 1, 4, seed=1)
    found = teacher_probability(match, images, texts, rivals=rivals)
    e = math.exp
    assert found.tolist() == pytest.approx([e(2) / (e(2) + e(1) + 1), 1 / (1 + e(3)), 1.0])
    batch = teacher_probability(match, images, texts, rivals=rivals, over="batch", logit_scale=3.0)
    assert batch.tolist() == pytest.approx(softmax_at_own(images, texts[:, 0], 3.0), rel=1e-4)
