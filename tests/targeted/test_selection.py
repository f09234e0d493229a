"""Which words are kept, against hand-computed sets."""

import itertools

import pytest
import torch

from cliptd.targeted import is_content_word, select_tokens


def keep(scores, mask=None, **settings):
    scores = torch.tensor(scores)
    mask = torch.ones_like(scores, dtype=torch.bool) if mask is None else torch.tensor(mask).bool()
    return [int(k) for k in select_tokens(scores, mask, **settings).nonzero().flatten()]


@pytest.mark.parametrize(
    ("scores", "mass", "kept"),
    [
        ([0.5, 0.3, 0.2], 0.8, [0, 1]),  # exactly the mass: no third
        ([0.5, 0.3, 0.2], 0.81, [0, 1, 2]),
        ([0.7, 0.1, 0.1, 0.1], 0.8, [0, 1]),  # float32 sums to 0.79999998
        ([0.2, 0.2, 0.2, 0.2, 0.2], 0.5, [0, 1, 2]),  # ties: lower index first
        ([5.0, 3.0, 2.0], 0.5, [0]),  # need not sum to 1
        ([0.0, 0.0, 0.0], 0.5, [0, 1]),  # equally likely
        ([0.9, 0.1, 0.0], 1.0, [0, 1]),
        ([1.0], 0.01, [0]),
    ],
)
def test_mass_keeps_the_smallest_set(scores, mass, kept):
    assert keep(scores, mass=mass) == kept


def test_mass_is_smallest_against_exhaustive_search():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        scores = torch.rand(6, generator=generator, dtype=torch.float64)
        mass = float(torch.rand((), generator=generator)) * 0.9 + 0.05
        smallest = next(
            size
            for size in range(1, 7)
            if any(
                sum(scores[k] for k in subset) >= mass * scores.sum()
                for subset in itertools.combinations(range(6), size)
            )
        )
        kept = keep(scores.tolist(), mass=mass)
        assert len(kept) == smallest
        assert kept == sorted(scores.argsort(descending=True)[:smallest].tolist())


def test_mask_is_never_left_and_mass_is_within_it():
    assert keep([0.9, 0.06, 0.04], [0, 1, 1], mass=0.5) == [1]
    assert keep([float("nan"), 0.06, 0.04], [0, 1, 1], mass=0.9) == [1, 2]
    assert keep([0.1, 0.9], [0, 0]) == []


@pytest.mark.parametrize("method", ["mass", "top_k", "sample", "random", "all"])
def test_one_word_is_kept_wherever_there_is_one(method):
    mask = torch.tensor([[True, False, False], [False, False, False], [False, True, True]])
    kept = select_tokens(torch.zeros(3, 3), mask, method=method, mass=0.1, top_k=1)
    assert kept[0].tolist() == [True, False, False]
    assert not kept[1].any()
    assert kept[2].any()
    assert not (kept & ~mask).any()


def test_top_k_takes_any_scores_and_ties_go_to_the_lower_index():
    assert keep([-3.0, -1.0, -1.0, -2.0], method="top_k", top_k=1) == [1]
    assert keep([-3.0, -1.0, -1.0, -2.0], method="top_k", top_k=3) == [1, 2, 3]
    assert keep([0.1, 0.2], method="top_k", top_k=9) == [0, 1]


def test_leading_dimensions_are_rows_of_their_own():
    scores = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(2)) > 0.3
    together = select_tokens(scores, mask, mass=0.6)
    for b, c in itertools.product(range(2), range(3)):
        assert torch.equal(together[b, c], select_tokens(scores[b, c], mask[b, c], mass=0.6))


@pytest.mark.parametrize("method", ["sample", "random"])
def test_draws_as_many_as_mass_keeps_or_as_count_says(method):
    scores, mask = torch.rand(20, 8, generator=torch.Generator().manual_seed(3)), torch.rand(20, 8) > 0.4
    drawn = select_tokens(scores, mask, method=method, generator=torch.Generator().manual_seed(4))
    assert torch.equal(drawn.sum(1), select_tokens(scores, mask).sum(1))
    counts = torch.arange(20) % 4
    drawn = select_tokens(
        scores, mask, method=method, count=counts, generator=torch.Generator().manual_seed(4)
    )
    assert torch.equal(drawn.sum(1), torch.minimum(counts.clamp(min=1), mask.sum(1)))


def test_sample_is_without_replacement_in_proportion_to_the_score():
    scores = torch.tensor([0.6, 0.3, 0.1, 0.0], dtype=torch.float64).expand(40_000, 4)
    mask = torch.ones(40_000, 4, dtype=torch.bool)
    drawn = select_tokens(scores, mask, method="sample", count=2, generator=torch.Generator().manual_seed(0))
    # P(pair) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j)
    p = [0.6, 0.3, 0.1]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
        assert (drawn[:, i] & drawn[:, j]).double().mean().item() == pytest.approx(expected, abs=0.012)
    assert not drawn[:, 3].any()


def test_random_ignores_the_scores_and_repeats_by_seed():
    scores = torch.tensor([0.98, 0.01, 0.01]).expand(6000, 3)
    mask = torch.ones(6000, 3, dtype=torch.bool)
    settings = {"method": "random", "count": 1}
    drawn = select_tokens(scores, mask, generator=torch.Generator().manual_seed(0), **settings)
    assert torch.allclose(drawn.double().mean(0), torch.full((3,), 1 / 3, dtype=torch.float64), atol=0.03)
    assert torch.equal(
        drawn, select_tokens(scores, mask, generator=torch.Generator().manual_seed(0), **settings)
    )


def test_errors():
    scores, mask = torch.rand(3), torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match="method is 'best'; expected one of 'mass'"):
        select_tokens(scores, mask, method="best")
    with pytest.raises(ValueError, match=r"mask has shape \(2,\)"):
        select_tokens(scores, mask[:2])
    with pytest.raises(ValueError, match=r"type torch\.int64; expected torch\.bool"):
        select_tokens(scores, mask.long())
    with pytest.raises(ValueError, match="NaN or infinity under the mask"):
        select_tokens(torch.tensor([0.1, float("nan"), 0.3]), mask)
    with pytest.raises(ValueError, match=r'scores hold -0\.5 under the mask; method "mass" takes'):
        select_tokens(torch.tensor([0.1, -0.5, 0.3]), mask)
    with pytest.raises(ValueError, match='method "sample" takes'):
        select_tokens(torch.tensor([0.1, -0.5, 0.3]), mask, method="sample", count=1)


def test_content_words():
    words = ["The", "dog", "'", "isn't", "Isn’t", "3", "left", "under", "not", "person", "é"]
    assert [word for word in words if is_content_word(word)] == ["dog", "3", "left", "person", "é"]
    assert [word for word in words if not is_content_word(word, drop_stopwords=False)] == ["'"]
