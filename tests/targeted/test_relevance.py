"""Relevance against hand-computed numbers and float64 loops."""

import json
import math

import pytest
import torch

from cliptd.targeted import (
    DocumentFrequency,
    combine_relevance,
    leave_one_out,
    semantic_relevance,
    visual_relevance,
)


def unit(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def test_visual_relevance_is_word_dot_image_less_mean():
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    images = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    mean = torch.randn(4, generator=generator, dtype=torch.float64)
    for average in (mean, None):
        found = visual_relevance(words, images, average)
        offset = [0.0] * 4 if average is None else average.tolist()
        for b in range(2):
            image = [v - m for v, m in zip(unit(images[b].tolist()), offset, strict=True)]
            for k in range(3):
                expected = sum(u * v for u, v in zip(unit(words[b, k].tolist()), image, strict=True))
                assert found[b, k].item() == pytest.approx(expected, abs=1e-12)
    # callers never normalise
    assert torch.allclose(
        visual_relevance(words * 7, images * 3, mean), visual_relevance(words, images, mean)
    )


def test_a_word_high_on_every_picture_loses_to_one_of_this_picture():
    """Word 0 is near every image, word 1 near this one only: raw cosine prefers 0, relative relevance 1."""
    words = torch.tensor([[0.9, 0.436, 0.0], [0.0, 0.6, 0.8]])
    images = torch.tensor([[0.8, 0.6, 0.0], [0.8, -0.6, 0.0]])
    raw, relative = visual_relevance(words, images[0]), visual_relevance(words, images[0], images.mean(0))
    assert raw.argmax() == 0
    assert relative.argmax() == 1


def test_semantic_relevance_is_one_minus_cosine():
    text = torch.tensor([2.0, 0.0])
    without = torch.tensor([[1.0, 0.0], [0.0, 3.0], [3.0, 4.0]])
    assert torch.allclose(semantic_relevance(text, without), torch.tensor([0.0, 1.0, 0.4]))


@pytest.mark.parametrize(
    ("words", "text", "without"),
    [
        (["a", "red", "car"], "a red car", ["red car", "a car", "a red"]),
        (["Is", "it", "a", "dog"], "Is it a dog?", ["it a dog?", "Is a dog?", "Is it dog?", "Is it a?"]),
        (
            ["the", "cat", "the", "mat"],
            "The cat, the mat",
            ["cat, the mat", "The, the mat", "The cat, mat", "The cat, the"],
        ),
        (["art"], "a cart of art", ["a cart of"]),  # whole words only
        (["horse", "dog"], "a dog", ["a dog", "a"]),  # not in the text: leaves it as it is
        (["only"], "only", [""]),
        (["well-lit", "dog's"], "a (well-lit) dog's bowl", ["a () dog's bowl", "a (well-lit) bowl"]),
        (["İstanbul", "x"], "İstanbul x", ["x", "İstanbul"]),  # lower-casing changes the length
        ([], "anything", []),
    ],
)
def test_leave_one_out(words, text, without):
    assert leave_one_out(words, text) == without


def test_product_of_softmaxes_by_hand():
    visual, semantic = torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0.3, 0.1, 0.5])
    mask = torch.tensor([True, True, False])
    settings = {"visual_temperature": 0.1, "semantic_temperature": 0.2}
    v = [math.exp(1), math.exp(2)]
    s = [math.exp(1.5), math.exp(0.5)]
    product = [a * b / (v[0] * s[0] + v[1] * s[1]) for a, b in zip(v, s, strict=True)]
    expected = {
        "product": product,
        "mean": [(a / sum(v) + b / sum(s)) / 2 for a, b in zip(v, s, strict=True)],
        "visual": [a / sum(v) for a in v],
        "semantic": [b / sum(s) for b in s],
    }
    for score, numbers in expected.items():
        found = combine_relevance(visual, semantic, mask, score=score, **settings)
        assert found.tolist() == pytest.approx([*numbers, 0.0], abs=1e-6)


def test_no_word_gives_zeros_and_a_missing_relevance_an_error():
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert not combine_relevance(torch.rand(2, 3), torch.rand(2, 3), nothing, score="mean").any()
    assert not combine_relevance(torch.rand(2, 3), torch.rand(2, 3), nothing).any()
    with pytest.raises(
        ValueError, match='score "product" needs the semantic relevance, which is None; pass semantic='
    ):
        combine_relevance(torch.rand(3), None, torch.ones(3).bool())


def test_document_frequency_counts_texts_and_round_trips(tmp_path):
    frequency = DocumentFrequency.fit([["The", "dog", "dog"], ["the", "cat"], ["the"]])
    assert frequency.documents == 3
    assert frequency.counts == {"the": 3, "dog": 1, "cat": 1}
    assert frequency.idf("THE") == 0
    assert frequency.idf("dog") == pytest.approx(math.log(4 / 2))
    assert frequency.idf("unseen") == pytest.approx(math.log(4))
    frequency.save(tmp_path / "df.json")
    again = DocumentFrequency.load(tmp_path / "df.json")
    assert (again.documents, again.counts) == (3, frequency.counts)
    assert [path.name for path in tmp_path.iterdir()] == ["df.json"]


def test_document_frequency_errors(tmp_path):
    with pytest.raises(ValueError, match="the document count of 'dog' is 4; expected 1 to 3"):
        DocumentFrequency(3, {"dog": 4})
    with pytest.raises(FileNotFoundError):
        DocumentFrequency.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text(json.dumps({"documents": 3}))
    with pytest.raises(ValueError, match=r"bad\.json is not a document frequency file \(KeyError"):
        DocumentFrequency.load(tmp_path / "bad.json")
    (tmp_path / "worse.json").write_text("{")
    with pytest.raises(ValueError, match=r"worse\.json is not a document frequency file \(JSONDecodeError"):
        DocumentFrequency.load(tmp_path / "worse.json")
