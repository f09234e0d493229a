"""The real store, filled by precompute, answers the collator as the live teacher does."""

import pytest
import torch

from cliptd.store.live import LiveSource
from cliptd.store.reader import StoreMissError, TeacherStore
from cliptd.store.writer import StoreWriter
from cliptd.targeted import DistillationCollator, DistillationInputs, precompute
from cliptd.targeted import TargetedDistillationConfig as Config
from cliptd.teachers import load_teacher
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

TEXTS = [
    ["the red dog is left of the tree", "a small bird in the house"],
    ["a man with a big blue car", "she is standing on the red car"],
    ["why is the boy looking at the cat", "a green picture of a person"],
]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("teacher") / "clip")))


def make_inputs(rows, images=True):
    words = [[text.split() for text in TEXTS[b]] for b in rows]
    return DistillationInputs(
        [f"image{b}" for b in rows],
        [tiny_image(b) if images else None for b in rows],
        [TEXTS[b] for b in rows],
        words,
        torch.tensor([[[-1, *range(len(text))][:7] for text in row] for row in words]),
        region_keys=[[f"region{b}", f"region{b + 1}"] for b in rows],
        regions=[[tiny_image(b + 10), tiny_image(b + 11)] for b in rows] if images else None,
        region_ids=torch.tensor([[-1, 0, 1]] * len(rows)),
    )


@pytest.mark.parametrize(
    "config",
    [
        Config(visual_temperature=0.3, semantic_temperature=0.3),
        Config(text_target="selected", visual_temperature=0.3, semantic_temperature=0.3),
        Config(text_target="selected", selection="random", score="semantic", semantic_temperature=0.3),
    ],
)
def test_store_equals_live_and_misses_nothing(config, teacher, tmp_path):
    with StoreWriter(tmp_path / "store", teacher, dtype="float32", shard_size=7) as writer:
        precompute([make_inputs([0, 1]), make_inputs([2])], writer, config)
    store = TeacherStore.open(tmp_path / "store", teacher)
    found = DistillationCollator(None, store, config).columns(make_inputs([2, 0, 1], images=False))
    live = LiveSource(teacher, calibration=[tiny_image(b) for b in range(3)])
    expected = DistillationCollator(None, live, config).columns(make_inputs([2, 0, 1]))
    for name, x in expected.items():
        assert torch.allclose(found[name].double(), x.double(), atol=1e-5), name
    assert found["teacher_region_embeds"].shape == (3, 2, teacher.embed_dim)
    assert list(store.regions) == ["region0", "region1", "region2", "region3"]
    assert 0 < found["teacher_word_mask"].sum() < sum(len(t.split()) for row in TEXTS for t in row)


def test_float16_store_answers_everything_that_precompute_asked(teacher, tmp_path):
    """Selection of texts goes by the rounded embeddings in the writer too, so no selected text is missing."""
    config = Config(text_target="selected", visual_temperature=0.01, semantic_temperature=0.01)
    with StoreWriter(tmp_path / "store", teacher, shard_size=5) as writer:
        precompute([make_inputs([0, 1]), make_inputs([2])], writer, config)
        expected = DistillationCollator(None, writer, config).columns(make_inputs([0, 1, 2]))
    store = TeacherStore.open(tmp_path / "store", teacher)
    found = DistillationCollator(None, store, config).columns(make_inputs([0, 1, 2], images=False))
    for name, x in expected.items():
        assert torch.equal(found[name], x), name


def test_other_settings_miss_by_name(teacher, tmp_path):
    with StoreWriter(tmp_path / "store", teacher) as writer:
        precompute([make_inputs([0])], writer, Config())
    store = TeacherStore.open(tmp_path / "store", teacher)
    with pytest.raises(StoreMissError, match="no text 'the "):
        DistillationCollator(None, store, Config(word_prompt="the {word}")).columns(make_inputs([0]))
