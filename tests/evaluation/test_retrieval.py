"""Retrieval against a stable sort of the full matrix, in float64, a loop over queries."""

import numpy as np
import pytest
import torch

from cliptd.data.pairs.loading import load_pairs
from cliptd.data.pairs.pair import Pair
from cliptd.evaluation.retrieval import ranks_both_ways, retrieval
from cliptd.teachers import load_teacher
from tests.helpers.table_encoder import TableEncoder, picture, write_picture
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

pytestmark = pytest.mark.usefixtures("own_cache")


def by_hand(pairs, image_embeds, text_embeds):
    """The recalls of (key, text) rows, from the embeddings of keys and texts, with every row a candidate text."""
    keys = list(dict.fromkeys(key for key, _ in pairs))
    images = np.stack([image_embeds[key] for key in keys])
    texts = np.stack([text_embeds[text] for _, text in pairs])
    full = images @ texts.T
    is_right = np.array([[(key, text) in pairs for _, text in pairs] for key in keys])
    result = {"images": len(keys), "texts": len(pairs)}
    for name, scores, right in (("image_to_text", full, is_right), ("text_to_image", full.T, is_right.T)):
        for k in (1, 5, 10):
            hits = [
                any(row_right[np.argsort(-row, kind="stable")[:k]])
                for row, row_right in zip(scores, right, strict=True)
            ]
            result[f"{name}_r{k}"] = pytest.approx(100 * np.mean(hits))
    return result


def random_pairs(seed, images=30, rows=80, texts=50):
    """Pairs of which images have several texts and texts several images, some of them twice; small whole embeddings."""
    rng = np.random.default_rng(seed)
    pairs = [(f"{i}.png", f"text {rng.integers(texts)}") for i in rng.permutation(images)]
    pairs += [
        (f"{rng.integers(images)}.png", f"text {rng.integers(texts)}") for _ in range(rows - images - 2)
    ]
    pairs += pairs[3:5]
    image_table = rng.integers(-2, 3, (images, 3)).astype(np.float64)  # exact in float32, with many ties
    text_table = rng.integers(-2, 3, (texts, 3)).astype(np.float64)
    image_embeds = {f"{i}.png": row for i, row in enumerate(image_table)}
    return pairs, image_embeds, {f"text {i}": row for i, row in enumerate(text_table)}


@pytest.mark.parametrize("block_pairs", [1, 100, 1000, 2**22])
@pytest.mark.parametrize("seed", range(3))
def test_recalls_are_those_of_a_stable_sort_of_the_full_matrix(seed, block_pairs, monkeypatch):
    rows, image_embeds, text_embeds = random_pairs(seed)
    pairs = [Pair(key, picture(int(key[:-4])), text) for key, text in rows]
    monkeypatch.setattr("cliptd.evaluation.ranking.BLOCK_PAIRS", block_pairs)
    found = retrieval(TableEncoder(np.stack(list(image_embeds.values())), text_embeds, 7), pairs)
    assert found.pop("skipped") == []
    assert found == by_hand(rows, image_embeds, text_embeds)
    for way in ("image_to_text", "text_to_image"):
        assert found[f"{way}_r1"] < found[f"{way}_r10"] < 100  # the case tells rules apart


def test_no_more_than_a_block_of_similarities_is_held(monkeypatch):
    seen = []
    original = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: seen.append(original(a, b)) or seen[-1])
    images, texts = torch.randn(2, 60, 8, generator=torch.Generator().manual_seed(0))
    own = torch.arange(60)
    monkeypatch.setattr("cliptd.evaluation.ranking.BLOCK_PAIRS", 600)
    ranks_both_ways(images, texts, own, own)
    assert [tuple(scores.shape) for scores in seen] == [(10, 60)] * 12


def test_shared_texts_and_images_count_as_right_by_hand():
    # "x" stands with both images, image 0 has two texts; image 1 lies where only "y" is.
    pairs = [Pair("0", picture(0), "x"), Pair("0", picture(0), "y"), Pair("1", picture(1), "x")]
    found = retrieval(TableEncoder([[1.0, 0.0], [0.0, 1.0]], {"x": [0.8, 0.6], "y": [0.0, 1.0]}), pairs)
    assert (found["images"], found["texts"]) == (2, 3)
    assert found["image_to_text_r1"] == 50.0  # image 1 finds "y" first, which is image 0's
    assert found["text_to_image_r1"] == pytest.approx(
        200 / 3
    )  # "y" finds image 1; "x" is right with either, twice
    assert found["image_to_text_r5"] == found["text_to_image_r5"] == 100.0


def test_a_collapsed_model_is_as_good_as_chance():
    pairs = [Pair(str(i), picture(i), f"text {i}") for i in range(20)]
    found = retrieval(TableEncoder(torch.ones(20, 2), {pair.text: [1.0, 1.0] for pair in pairs}), pairs)
    for way in ("image_to_text", "text_to_image"):
        assert [found[f"{way}_r{k}"] for k in (1, 5, 10)] == [5.0, 25.0, 50.0]


def test_a_csv_with_an_open_clip_model(tmp_path):
    rows = [
        (f"{i // 2}.png", text)
        for i, text in enumerate(["a dog", "a cat", "a red car", "a tree", "he", "she"])
    ]
    rows += [(f"{i}.png", f"{i} birds") for i in range(3, 14)]
    for seed in range(14):
        tiny_image(seed).save(tmp_path / f"{seed}.png")
    (tmp_path / "set.csv").write_text(
        "".join(f"{key};{text}\n" for key, text in [("image", "caption"), *rows])
    )
    pairs = load_pairs(tmp_path / "set.csv", image_column="image", text_column="caption", separator=";")
    teacher = load_teacher(str(tiny_open_clip_folder(tmp_path / "model")), batch_size=4)
    keys, texts = [f"{i}.png" for i in range(14)], [text for _, text in rows]
    images = teacher.encode_images([tiny_image(seed) for seed in range(14)]).double().numpy()
    found = retrieval(teacher, pairs)
    assert found.pop("skipped") == []
    embeds = teacher.encode_texts(texts).double().numpy()
    assert found == by_hand(rows, dict(zip(keys, images, strict=True)), dict(zip(texts, embeds, strict=True)))


def test_a_bad_image_or_line_is_named_or_left_out_with_its_pairs(tmp_path):
    lines = ["filepath\ttitle", "0.png\tx", "1.png\ty", "1.png\tz", "2.png\t"]
    (tmp_path / "set.tsv").write_text("\n".join(lines) + "\n")
    write_picture(tmp_path / "0.png", 0)
    (tmp_path / "1.png").write_bytes(b"broken")
    model = TableEncoder(torch.eye(2), {"x": [1.0, 0.0]})
    pairs = load_pairs(tmp_path / "set.tsv", on_bad_sample="skip")
    with pytest.raises(ValueError, match=r"set\.tsv:3: image .*1\.png is corrupt"):
        retrieval(model, pairs)
    found = retrieval(model, pairs, on_bad_sample="skip")
    assert (found["images"], found["texts"], found["image_to_text_r1"]) == (1, 1, 100.0)
    assert len(found["skipped"]) == 2
    assert found["skipped"][0].endswith("set.tsv:5: title empty")
    assert "1.png is corrupt" in found["skipped"][1]
