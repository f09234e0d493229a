"""The teacher's columns against a loop over instances, candidates and words."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cliptd.targeted import (
    DistillationCollator,
    DistillationInputs,
    DocumentFrequency,
    is_content_word,
    leave_one_out,
    precompute,
    teacher_view,
)
from cliptd.targeted import TargetedDistillationConfig as Config
from tests.helpers.fake_source import FakeSource, FrozenStore, RecordingWriter

TEXTS = [
    ["is the red car left of the dog", "the dog is on a tree", "the of"],
    ["a bird and a house", "person looks at the small boat", "the red car is here"],
    ["why is person standing with a red umbrella", "is the red car left of the dog", "nothing"],
    ["a cat", "a cat sits on a blue mat near the window", "two dogs and one bird play"],
]
KEYS = ["img0", "img1", "img1", "img2"]
COLUMNS = {
    "teacher_image_embeds",
    "teacher_text_embeds",
    "teacher_word_embeds",
    "teacher_word_mask",
    "teacher_word_ids",
    "teacher_match",
}


def make_inputs(rows=range(4), tokens=14, keys=KEYS, texts=TEXTS):
    generator = torch.Generator().manual_seed(0)
    words = [[text.split() for text in row] for row in texts]
    ids = torch.stack(
        [
            torch.stack([torch.randint(-1, len(w), (tokens,), generator=generator) for w in row])
            for row in words
        ]
    )
    rows = list(rows)
    return DistillationInputs(
        [keys[b] for b in rows],
        [object() for _ in rows],
        [texts[b] for b in rows],
        [words[b] for b in rows],
        ids[rows],
    )


def kept_by_hand(source, config, key, text):
    """The kept words of one text in float64, one word at a time (methods "mass" and "all")."""
    words = text.split()
    allowed = [k for k, w in enumerate(words) if is_content_word(w, drop_stopwords=config.drop_stopwords)]
    if config.selection == "all" or not allowed:
        return allowed

    def dot(a, b):
        return float((a.double() * b.double()).sum())

    image, mean = source.embed("image", key), source.image_mean()
    visual, semantic = {}, {}
    for k in allowed:
        word = source.embed("text", config.word_prompt.format(word=words[k]))
        visual[k] = dot(word, image) - (dot(word, mean) if config.relative_to == "corpus" else 0)
        without = leave_one_out(words, text)[k]
        semantic[k] = 1 - dot(source.embed("text", text), source.embed("text", without))

    def softmax(values, temperature):
        total = sum(math.exp(value / temperature) for value in values.values())
        return {k: math.exp(value / temperature) / total for k, value in values.items()}

    v = softmax(visual, config.visual_temperature)
    s = softmax(semantic, config.semantic_temperature)
    scores = {
        "product": {k: v[k] * s[k] for k in allowed},
        "mean": {k: v[k] + s[k] for k in allowed},
        "visual": v,
        "semantic": s,
    }[config.score]
    total, held, kept = sum(scores.values()), 0.0, []
    for k in sorted(allowed, key=lambda k: -scores[k]):
        if held >= config.mass * total:
            break
        kept.append(k)
        held += scores[k]
    return sorted(kept)


FLAT = {"visual_temperature": 0.3, "semantic_temperature": 0.3}


@pytest.mark.parametrize(
    "config",
    [
        Config(**FLAT),
        Config.for_method("visual_only", relative_to="none", word_prompt="{word}", **FLAT),
        Config.for_method("semantic_only", **FLAT),
        Config(score="mean", mass=0.5, **FLAT),
        Config(text_target="selected", **FLAT),
        Config.for_method("all_words"),
        Config.for_method("naive"),
        Config.for_method("naive", text_target="selected", **FLAT),
    ],
)
def test_columns_are_the_reference(config):
    source, inputs = FakeSource(), make_inputs()
    columns = DistillationCollator(None, source, config).columns(inputs)
    assert set(columns) == COLUMNS
    room = columns["teacher_word_embeds"].shape[2]
    most = 0
    for b in range(4):
        assert torch.equal(columns["teacher_image_embeds"][b], source.embed("image", KEYS[b]))
        for c in range(3):
            text = TEXTS[b][c]
            kept = kept_by_hand(source, config, KEYS[b], text)
            target = text
            if config.text_target == "selected" and kept:
                target = " ".join(text.split()[k] for k in kept)
            assert torch.equal(columns["teacher_text_embeds"][b, c], source.embed("text", target))
            match = 20 * source.embed("image", KEYS[b]) @ source.embed("text", text)
            assert columns["teacher_match"][b, c].item() == pytest.approx(float(match), abs=1e-5)
            if config.word_weight == 0:
                kept = []
            most = max(most, len(kept))
            assert columns["teacher_word_mask"][b, c].tolist() == [j < len(kept) for j in range(room)]
            for j in range(room):
                expected = torch.zeros(8)
                if j < len(kept):
                    expected = source.embed("text", config.word_prompt.format(word=text.split()[kept[j]]))
                assert torch.equal(columns["teacher_word_embeds"][b, c, j], expected)
            for t, k in enumerate(inputs.word_ids[b, c].tolist()):
                assert columns["teacher_word_ids"][b, c, t] == (kept.index(k) if k in kept else -1)
    assert room == max(most, 1)
    assert columns["teacher_word_ids"].dtype == torch.int64
    assert columns["teacher_word_mask"].dtype == torch.bool
    assert all(x.dtype == torch.float32 for x in columns.values() if x.is_floating_point())


@pytest.mark.parametrize("shuffled", [False, True])
def test_confidence_over_the_batch_is_in_whole_texts_where_targets_are_of_selected_words(shuffled):
    config = Config(text_target="selected", confidence_over="batch", shuffle_teacher=shuffled, **FLAT)
    source = FakeSource()
    columns = DistillationCollator(None, source, config).columns(make_inputs())
    for b, other in enumerate([2, 3, 0, 1] if shuffled else range(4)):
        for c in range(3):
            whole = source.embed("text", TEXTS[other][c])
            assert torch.equal(columns["teacher_whole_text_embeds"][b, c], whole)
    assert not torch.equal(columns["teacher_whole_text_embeds"], columns["teacher_text_embeds"])


def test_some_words_are_kept_and_some_are_not():
    mask = DistillationCollator(None, FakeSource(), Config(**FLAT)).columns(make_inputs())[
        "teacher_word_mask"
    ]
    content = sum(is_content_word(word) for row in TEXTS for text in row for word in text.split())
    assert 12 < mask.sum() < content
    assert not mask[0, 2].any()  # "the of"


@pytest.mark.parametrize("selection", ["random", "sample"])
def test_draws_are_as_many_as_targeted_and_depend_on_seed_image_and_text(selection):
    def kept(seed=0, **changes):
        collator = DistillationCollator(None, FakeSource(), Config(selection=selection, seed=seed, **FLAT))
        columns = collator.columns(make_inputs(**changes))
        return columns["teacher_word_mask"], columns["teacher_word_ids"]

    targeted = DistillationCollator(None, FakeSource(), Config(**FLAT)).columns(make_inputs())
    mask, ids = kept()
    assert torch.equal(mask.sum(2), targeted["teacher_word_mask"].sum(2))
    assert torch.equal(ids, kept()[1])
    assert not torch.equal(ids, kept(seed=1)[1])
    assert not torch.equal(ids, kept(keys=["other0", "other1", "other1", "other2"])[1])


@pytest.mark.parametrize(
    "config", [Config(**FLAT), Config(selection="sample", **FLAT), Config(selection="top_k", top_k=2)]
)
def test_columns_do_not_depend_on_the_batch_or_on_what_was_seen(config):
    whole = DistillationCollator(None, FakeSource(), config).columns(make_inputs())
    warm = DistillationCollator(None, FakeSource(), config)
    warm.columns(make_inputs([3, 0]))
    for b in (0, 1, 2, 3, 1):
        for collator in (warm, DistillationCollator(None, FakeSource(), config)):
            alone = collator.columns(make_inputs([b]))
            room = alone["teacher_word_mask"].shape[2]
            for name, x in alone.items():
                expected = whole[name][b : b + 1]
                if name in ("teacher_word_embeds", "teacher_word_mask"):
                    assert not expected[:, :, room:].any()
                    expected = expected[:, :, :room]
                assert torch.equal(x, expected), name


def test_idf_keeps_the_rare_word():
    frequency = DocumentFrequency.fit(text.split() for row in TEXTS for text in row)
    config = Config.for_method("semantic_only", semantic="idf", selection="top_k", top_k=1)
    collator = DistillationCollator(None, FakeSource(), config, document_frequency=frequency)
    ids = collator.columns(make_inputs())["teacher_word_ids"]
    word_ids = make_inputs().word_ids
    words = TEXTS[0][0].split()
    rarest = min((w for w in words if is_content_word(w)), key=lambda w: frequency.counts[w])
    assert rarest == "left"
    assert torch.equal(ids[0, 0] == 0, word_ids[0, 0] == words.index("left"))


def test_a_steady_step_asks_once_for_texts_and_once_for_words_and_never_for_texts_left_out():
    source = FakeSource()
    collator = DistillationCollator(None, source, Config(**FLAT))
    first = collator.columns(make_inputs())
    source.asked_texts.clear()
    again = collator.columns(make_inputs())
    assert all(torch.equal(first[name], again[name]) for name in COLUMNS)
    assert len(source.asked_texts) == 2
    texts, words = sorted(source.asked_texts, key=lambda asked: asked[0].startswith("a photo of a "))
    assert texts == list(dict.fromkeys(text for row in TEXTS for text in row))
    assert all(word.startswith("a photo of a ") for word in words)
    assert len(set(words)) == len(words)


def test_memory_of_views_is_bounded():
    collator = DistillationCollator(None, FakeSource(), Config(**FLAT))
    expected = collator.columns(make_inputs())
    collator.views.room = 5
    found = collator.columns(make_inputs())
    assert all(torch.equal(found[name], expected[name]) for name in COLUMNS)
    collator.columns(make_inputs([0]))
    collator.columns(make_inputs(keys=["new0", "new1", "new2", "new3"]))
    assert len(collator.views._views) == 5


def test_workers_share_the_room_for_views(monkeypatch):
    monkeypatch.setattr(teacher_view, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    collator = DistillationCollator(None, FakeSource(), Config(**FLAT))
    collator.views.room = 10
    collator.columns(make_inputs())
    assert len(collator.views._views) == 5
    assert all(isinstance(key, int) for key in collator.views._views)  # not the texts themselves


def test_shuffled_teacher_gives_another_instances_targets_and_keeps_the_number_of_words():
    """Of the images img0, img1, img1, img2, two steps on is the nearest that gives none its own image."""
    plain = DistillationCollator(None, FakeSource(), Config(**FLAT)).columns(make_inputs())
    config = Config(shuffle_teacher=True, **FLAT)
    shuffled = DistillationCollator(None, FakeSource(), config).columns(make_inputs())
    for name in ("teacher_image_embeds", "teacher_text_embeds", "teacher_match"):
        assert torch.equal(shuffled[name], plain[name][[2, 3, 0, 1]])
    assert torch.equal(shuffled["teacher_word_ids"], plain["teacher_word_ids"])
    for b, other in enumerate([2, 3, 0, 1]):
        for c in range(3):
            own = int(plain["teacher_word_mask"][b, c].sum())
            others = plain["teacher_word_embeds"][other, c][plain["teacher_word_mask"][other, c]]
            count = own if len(others) else 0
            assert int(shuffled["teacher_word_mask"][b, c].sum()) == count
            for j in range(count):
                assert torch.equal(shuffled["teacher_word_embeds"][b, c, j], others[j % len(others)])
    with pytest.raises(ValueError, match="this batch has one"):
        DistillationCollator(None, FakeSource(), config).columns(make_inputs([0]))


def test_call_adds_columns_to_the_tasks_batch_and_none_adds_nothing():
    def collate(examples):
        return {"labels": torch.tensor(examples), "distillation_inputs": make_inputs()}

    batch = DistillationCollator(collate, FakeSource())([0, 1, 2, 0])
    assert set(batch) == COLUMNS | {"labels"}
    source = FakeSource()
    assert set(DistillationCollator(collate, source, Config.for_method("none"))([0, 1, 2, 0])) == {"labels"}
    assert not source.asked_images
    with pytest.raises(ValueError, match="batch holds labels, x and no distillation_inputs"):
        DistillationCollator(lambda _: {"labels": 1, "x": 2}, source)([0])


def test_a_collator_without_a_collate_makes_no_batches():
    with pytest.raises(ValueError, match="made without a collate"):
        DistillationCollator(None, FakeSource())([0, 1])


def test_a_sigmoid_teachers_bias_is_in_the_match():
    source = FakeSource()
    plain = DistillationCollator(None, source).columns(make_inputs())["teacher_match"]
    source.logit_bias = -3.0
    biased = DistillationCollator(None, source).columns(make_inputs())["teacher_match"]
    assert torch.allclose(biased, plain - 3)


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("img1", "image 'img1'"),
        ("a bird and a house", "text 'a bird and a house'"),
        ("a photo of a umbrella", "text 'a photo of a umbrella'"),
    ],
)
def test_nan_of_the_teacher_is_named(broken, what):
    source = FakeSource()
    source.broken.add(broken)
    with pytest.raises(ValueError, match=f"the teacher: the embedding of {what} is not finite"):
        DistillationCollator(None, source).columns(make_inputs())


def test_nan_in_the_mean_is_named():
    source = FakeSource()
    source.broken.add("mean")
    with pytest.raises(ValueError, match="image_mean holds NaN or infinity"):
        DistillationCollator(None, source).columns(make_inputs())


def test_idf_needs_frequencies():
    with pytest.raises(ValueError, match=r'semantic="idf" needs the document frequencies'):
        DistillationCollator(None, FakeSource(), Config(semantic="idf"))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("images", [None], "hold 1 images for 4 image keys"),
        ("texts", TEXTS[:3], "hold 3 texts for 4 image keys"),
        (
            "texts",
            [*TEXTS[:3], ["a"]],
            r"instance 3 \(image 'img2'\) holds 1 texts and 3 lists of words; expected 3",
        ),
        ("word_ids", torch.zeros(4, 2, 5), r"word_ids have shape \(4, 2, 5\); expected \(4, 3, tokens\)"),
        ("word_ids", torch.zeros(4, 3, 5), r"word_ids are torch\.float32; expected whole numbers"),
    ],
)
def test_inputs_that_do_not_fit_are_named(part, value, message):
    inputs = vars(make_inputs())
    with pytest.raises(ValueError, match=message):
        DistillationInputs(**{**inputs, part: value})


def test_no_instance_and_a_word_that_does_not_exist():
    with pytest.raises(ValueError, match="hold no instance"):
        DistillationInputs([], [], [], [], torch.zeros(0, 0, 0, dtype=torch.long))
    inputs = make_inputs()
    inputs.word_ids[3, 0, 0] = 2
    with pytest.raises(
        ValueError, match=r"instance 3, candidate 0 hold 2, but it has 2 words: \['a', 'cat'\]"
    ):
        DistillationCollator(None, FakeSource()).columns(inputs)


@pytest.mark.parametrize(
    "config",
    [
        Config(**FLAT),
        Config(text_target="selected", **FLAT),
        Config(text_target="selected", selection="random", **FLAT),
        Config.for_method("all_words"),
        Config.for_method("naive"),
        Config.for_method("visual_only", **FLAT),
        Config.for_method("semantic_only", text_target="selected", word_weight=0, **FLAT),
        Config.for_method("shuffled_teacher", **FLAT),
    ],
)
def test_after_precompute_a_store_answers_everything(config):
    writer, seen = RecordingWriter(), []
    batches = [make_inputs(rows) for rows in ([0, 1, 2], [3, 0])]
    precompute(batches, writer, config, progress=lambda stage, done: seen.append((stage, done)))
    assert seen == [("images", 3), ("images", 5), ("texts", 3), ("texts", 5)]
    assert not writer.asked_texts or len(writer.images) == 3
    store = FrozenStore(writer)
    expected = DistillationCollator(None, writer, config).columns(make_inputs())
    found = DistillationCollator(None, store, config).columns(make_inputs())
    assert all(torch.equal(found[name], expected[name]) for name in COLUMNS)


def test_precompute_refuses_what_ends_after_one_pass():
    with pytest.raises(TypeError, match="generator, which ends after one pass, and precompute makes two"):
        precompute((make_inputs() for _ in range(2)), RecordingWriter(), Config())


def test_precompute_of_none_asks_nothing():
    writer = RecordingWriter()
    precompute([make_inputs()], writer, Config.for_method("none"))
    assert not writer.images
    assert not writer.texts


def test_a_steady_batch_of_32_by_4_by_15_is_fast():
    vocabulary = [f"word{i}" for i in range(2000)]
    generator = torch.Generator().manual_seed(0)
    picks = torch.randint(0, 2000, (32, 4, 15), generator=generator).tolist()
    words = [[[vocabulary[i] for i in text] for text in row] for row in picks]
    texts = [[" ".join(text) for text in row] for row in words]
    inputs = DistillationInputs(
        [f"key{b}" for b in range(32)],
        [None] * 32,
        texts,
        words,
        torch.randint(-1, 15, (32, 4, 40), generator=generator),
    )

    class Table(FakeSource):
        def __init__(self):
            super().__init__(embed_dim=512)
            self.rows, self.table = {}, torch.zeros(0, 512)

        def text_embeds(self, asked):
            new = [text for text in asked if text not in self.rows]
            self.rows.update({text: len(self.rows) + i for i, text in enumerate(new)})
            if new:
                self.table = torch.cat(
                    [self.table, torch.nn.functional.normalize(torch.randn(len(new), 512), dim=1)]
                )
            return self.table[torch.tensor([self.rows[text] for text in asked])]

        def image_embeds(self, keys, images):
            return self.text_embeds(keys)

    collator = DistillationCollator(None, Table(), Config(semantic_temperature=1.0, visual_temperature=1.0))
    collator.columns(inputs)
    seconds = []
    for _ in range(10):
        start = time.process_time()
        collator.columns(inputs)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05  # a few ms on an idle core; guards against working views out again


REGIONS = [["r0", "r1"], ["r2"], ["r2"], []]


def with_regions(inputs, rows=range(4)):
    ids = torch.tensor([[-1, 0, 1], [-1, 0, -1], [0, 0, -1], [-1, -1, -1]])
    return replace(
        inputs,
        region_keys=[REGIONS[b] for b in rows],
        regions=[[object()] * len(REGIONS[b]) for b in rows],
        region_ids=ids[list(rows)],
    )


def test_region_columns_are_the_sources_embeddings():
    source = FakeSource()
    columns = DistillationCollator(None, source, Config()).columns(with_regions(make_inputs()))
    embeds, ids = columns["teacher_region_embeds"], columns["teacher_region_ids"]
    assert embeds.shape == (4, 2, source.embed_dim)
    for b, keys in enumerate(REGIONS):
        for r, key in enumerate(keys):
            assert torch.equal(embeds[b, r], source.embed("region", key))
    assert torch.equal(ids, with_regions(make_inputs()).region_ids)
    # none where the settings or the task have no use for them
    for config, inputs in (
        (Config(region_weight=0), with_regions(make_inputs())),
        (Config.for_method("naive"), with_regions(make_inputs())),
        (Config(), make_inputs()),
        (Config(), replace(with_regions(make_inputs()), region_ids=None)),
    ):
        assert set(DistillationCollator(None, source, config).columns(inputs)) == COLUMNS


def test_a_word_is_as_visible_as_in_the_region_most_like_it():
    """The word whose own embedding is a region's is kept, though the whole image knows nothing of it."""
    source = FakeSource()
    config = Config(score="visual", selection="top_k", top_k=1, relative_to="none")
    prompt = config.word_prompt.format(word="dog")
    embed = source.embed
    source.embed = lambda kind, name: (
        embed("text", prompt) if (kind, name) == ("region", "r1") else embed(kind, name)
    )
    inputs = with_regions(make_inputs([0]), [0])
    seen = DistillationCollator(None, source, config).columns(inputs)
    for c, text in enumerate(TEXTS[0][:2]):
        assert "dog" in text
        assert torch.equal(seen["teacher_word_embeds"][0, c, 0], source.embed("text", prompt))
    whole = DistillationCollator(None, source, replace(config, visual_over="image")).columns(inputs)
    plain = DistillationCollator(None, source, config).columns(make_inputs([0]))
    assert torch.equal(whole["teacher_word_embeds"], plain["teacher_word_embeds"])
    assert not torch.equal(whole["teacher_word_embeds"], seen["teacher_word_embeds"])


def test_a_shuffled_teacher_exchanges_regions_too():
    source = FakeSource()
    config = Config(shuffle_teacher=True)
    rows = [0, 1, 3]
    columns = DistillationCollator(None, source, config).columns(with_regions(make_inputs(rows), rows))
    embeds, ids = columns["teacher_region_embeds"], columns["teacher_region_ids"]
    assert torch.equal(embeds[0, 0], source.embed("region", "r2"))  # image 1's
    assert ids.tolist() == [
        [-1, 0, 0],
        [-1, -1, -1],
        [-1, -1, -1],
    ]  # one region where it had two; none at all


def test_after_precompute_regions_are_answered_too():
    writer = RecordingWriter()
    asked = []
    writer.region_embeds = lambda keys, regions: (
        asked.extend(zip(keys, regions, strict=True))
        or torch.stack([writer.embed("region", key) for key in keys])
    )
    precompute([with_regions(make_inputs())], writer, Config())
    assert {key for key, region in asked if region is not None} == {"r0", "r1", "r2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"region_keys": None}, "regions without region_keys"),
        ({"region_keys": [["r0"]] * 4}, r"\[1, 1, 1, 1\] region keys and \[2, 1, 1, 0\] regions for 4"),
        ({"region_ids": torch.zeros(4, dtype=torch.int64)}, r"shape \(4,\); expected \(4, image tokens\)"),
        ({"region_ids": torch.full((4, 3), 1)}, "instance 1 .image 'img1'. hold 1, but it has 1 regions"),
    ],
)
def test_regions_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(with_regions(make_inputs()), **changes)


def with_rivals(rivals, rows=range(4)):
    inputs = make_inputs(rows, texts=[row[:1] for row in TEXTS])
    return replace(inputs, rival_texts=rivals)


RIVALS = [["a cat", "a dog"], [], ["the red car"], ["a bird", "nothing", "a cat"]]


def test_rivals_are_the_teachers_logits_padded_with_minus_infinity():
    source = FakeSource()
    columns = DistillationCollator(None, source, Config()).columns(with_rivals(RIVALS))
    found = columns["teacher_rival_match"]
    assert found.shape == (4, 3)
    for b, texts in enumerate(RIVALS):
        image = source.embed("image", KEYS[b]).double()
        for r in range(3):
            if r >= len(texts):
                assert found[b, r] == -torch.inf
                continue
            expected = source.logit_scale * float(image @ source.embed("text", texts[r]).double())
            assert float(found[b, r]) == pytest.approx(expected + (source.logit_bias or 0), abs=1e-4)
    for config in (Config(confidence="constant"), Config(confidence_over="batch")):
        assert set(DistillationCollator(None, source, config).columns(with_rivals(RIVALS))) == COLUMNS
    none = DistillationCollator(None, source, Config()).columns(with_rivals([[]] * 4))["teacher_rival_match"]
    assert (none == -torch.inf).all()


def test_after_precompute_a_store_answers_rivals_too():
    writer = RecordingWriter()
    precompute([with_rivals(RIVALS)], writer, Config())
    store = FrozenStore(writer)
    live = DistillationCollator(None, FakeSource(), Config()).columns(with_rivals(RIVALS))
    stored = DistillationCollator(None, store, Config()).columns(with_rivals(RIVALS))
    assert torch.equal(live["teacher_rival_match"], stored["teacher_rival_match"])


def test_a_shuffled_teacher_exchanges_rivals_too():
    config = Config(shuffle_teacher=True)
    plain = DistillationCollator(None, FakeSource(), Config()).columns(with_rivals(RIVALS))
    shuffled = DistillationCollator(None, FakeSource(), config).columns(with_rivals(RIVALS))
    shift = next(
        d for d in range(1, 4) if torch.equal(plain["teacher_match"].roll(-d, 0), shuffled["teacher_match"])
    )
    assert torch.equal(shuffled["teacher_rival_match"], plain["teacher_rival_match"].roll(-shift, 0))


def test_a_shuffled_teachers_store_can_be_built_of_a_last_batch_of_one():
    writer = RecordingWriter()
    precompute([make_inputs(), make_inputs(rows=[0])], writer, Config(shuffle_teacher=True, **FLAT))
    store = FrozenStore(writer)
    DistillationCollator(None, store, Config(shuffle_teacher=True, **FLAT)).columns(make_inputs())


def test_rivals_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="3 lists of rival texts for 4 instances of 1 candidates"):
        with_rivals(RIVALS[:3])
    with pytest.raises(ValueError, match="4 lists of rival texts for 4 instances of 3 candidates"):
        replace(make_inputs(), rival_texts=RIVALS)
