"""The objective against a float64 loop over instances, candidates and words."""

import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from cliptd.targeted import TargetedDistillation, mean_by_word
from cliptd.targeted import TargetedDistillationConfig as Config

B, C, K, T, E, D, DV, R, P = 4, 3, 4, 7, 5, 6, 8, 3, 5
STATES = ("text_states", "text_cls", "image_state", "image_states")


def make_columns(seed=0, batch=B, candidates=C):
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)

    mask = torch.rand(batch, candidates, K, generator=generator) > 0.4
    words = unit(batch, candidates, K, E) * mask[..., None]
    words[1, 0, 0] = words[0, 0, 0] = unit(E)
    mask[0, 0, 0] = mask[1, 0, 0] = True  # the same word in two instances
    mask[2] = False  # an instance without words
    mask[3, 0] = False  # a candidate without words
    word_ids = torch.randint(-1, K, (batch, candidates, T), generator=generator)
    word_ids[0, 0][word_ids[0, 0] == 1] = -1  # a word that lost its tokens
    mask[0, 0, 1] = True
    return {
        "teacher_image_embeds": unit(batch, E),
        "teacher_text_embeds": unit(batch, candidates, E),
        "teacher_word_embeds": words * mask[..., None],
        "teacher_word_mask": mask,
        "teacher_word_ids": word_ids,
        "teacher_match": torch.randn(batch, candidates, generator=generator),
        "teacher_region_embeds": unit(batch, R, E),
        "teacher_region_ids": torch.tensor(
            [[-1, 0, 1, 2, -1], [-1, 2, 0, -1, -1], [-1] * P, [0, 1, 2, 1, 0]]
        )[torch.arange(batch) % 4],
    }


def make_states(seed=1, batch=B, candidates=C, looks=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "text_states": torch.randn(batch * candidates, T, D, generator=generator),
        "text_cls": torch.randn(batch * candidates, D, generator=generator),
        "image_state": torch.randn(batch * looks, DV, generator=generator),
        "image_states": torch.randn(batch * looks, P, DV, generator=generator),
        "student_probability": torch.rand(batch, generator=generator),
        "labels": torch.randint(0, candidates, (batch,), generator=generator),
    }


def make_objective(config, **settings):
    torch.manual_seed(0)
    return TargetedDistillation(config, embed_dim=E, text_width=D, image_width=DV, **settings)


def unit(x):
    return x / x.norm()


def reference(objective, columns, states):
    """The loss, one instance, candidate and word at a time, in float64."""
    config = objective.config
    heads = {name: (head.weight.double(), head.bias.double()) for name, head in objective.heads.items()}
    columns = {name: x.double() if x.is_floating_point() else x for name, x in columns.items()}
    batch, candidates = columns["teacher_match"].shape
    kept = {
        (b, c, k)
        for b, c, k in itertools.product(range(batch), range(candidates), range(K))
        if columns["teacher_word_mask"][b, c, k]
    }

    def distance(head, state, target, rivals):
        names = {"regions": "image", "words": "text"} if config.share_heads == "text" else {}
        weight, bias = heads["all" if config.share_heads == "all" else names.get(head, head)]
        x, y = weight @ state.double() + bias, unit(target)
        if config.distance == "infonce":
            logits = [unit(x) @ y / config.infonce_temperature]
            logits += [
                unit(x) @ unit(r) / config.infonce_temperature for r in rivals if not torch.equal(r, target)
            ]
            return torch.logsumexp(torch.stack(logits), 0) - logits[0]
        x = unit(x)
        return {
            "cosine": 1 - x @ y,
            "mse": ((x - y) ** 2).sum(),
            "l1": (x - y).abs().sum() / math.sqrt(E),
        }[config.distance]

    weights = torch.ones(batch, dtype=torch.float64)
    if config.confidence != "constant":
        for b in range(batch):
            teacher = columns["teacher_match"][b].softmax(0)[states["labels"][b]]
            weights[b] = teacher + config.confidence_eps
            if config.confidence == "ratio":
                weights[b] /= states["student_probability"][b].double() + config.confidence_eps
                weights[b] = weights[b].clamp(max=config.confidence_max_ratio)
        weights /= weights.mean()

    image = regions = words = text = 0.0
    for b in range(batch):
        chosen = [int(states["labels"][b])] if config.text_candidates == "right" else list(range(candidates))
        looks = states["image_state"].view(batch, -1, DV)[b]
        v = columns["teacher_image_embeds"]
        image += weights[b] * sum(distance("image", h, v[b], v) for h in looks) / len(looks) / batch
        own, ids = columns["teacher_region_embeds"], columns["teacher_region_ids"]
        seen = [own[a, i] for a in range(batch) for i in ids[a].tolist() if i >= 0]
        looks = states["image_states"].view(batch, -1, P, DV)[b]
        for h in looks:
            found = [
                distance("regions", h[p], own[b, i], seen) for p, i in enumerate(ids[b].tolist()) if i >= 0
            ]
            if found:
                regions += weights[b] * sum(found) / len(found) / len(looks) / batch
        s = columns["teacher_text_embeds"]
        h = states["text_cls"].view(batch, candidates, D)[b]
        text += (
            weights[b]
            * sum(distance("text", h[c], s[b, c], s.flatten(0, 1)) for c in chosen)
            / (len(chosen) * batch)
        )
        u = columns["teacher_word_embeds"]
        rivals = [u[place] for place in kept]
        means = []
        for c in chosen:
            found = []
            for k in range(K):
                tokens = [t for t in range(T) if columns["teacher_word_ids"][b, c, t] == k]
                if (b, c, k) in kept and tokens:
                    h = states["text_states"].view(batch, candidates, T, D)[b, c, tokens].double().mean(0)
                    found.append(distance("words", h, u[b, c, k], rivals))
            if found:
                means.append(sum(found) / len(found))
        if means:
            words += weights[b] * sum(means) / len(means) / batch
    loss = config.image_weight * image + config.region_weight * regions
    loss = loss + config.word_weight * words + config.text_weight * text
    return *(float(term.detach()) for term in (loss, image, regions, words, text)), weights


@pytest.mark.parametrize("distance", ["cosine", "l1", "mse", "infonce"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"confidence": "constant"},
        {"confidence": "teacher", "text_candidates": "right", "share_heads": "none"},
        {
            "image_weight": 0.3,
            "region_weight": 1.5,
            "word_weight": 2.0,
            "text_weight": 0.7,
            "infonce_temperature": 0.3,
        },
    ],
)
def test_loss_is_the_reference(distance, settings):
    objective = make_objective(Config(distance=distance, **settings))
    columns, states = make_columns(), make_states()
    found = objective(columns, **states)
    loss, image, regions, words, text, weights = reference(objective, columns, states)
    assert found.loss.item() == pytest.approx(loss, rel=2e-5)
    assert found.image.item() == pytest.approx(image, rel=2e-5)
    assert found.regions.item() == pytest.approx(regions, rel=2e-5)
    assert found.words.item() == pytest.approx(words, rel=2e-5)
    assert found.text.item() == pytest.approx(text, rel=2e-5)
    assert found.weights.tolist() == pytest.approx(weights.tolist(), rel=1e-5)


def test_one_head_for_words_and_regions():
    config = Config(share_heads="all", distance="infonce")
    make_objective(replace(config, image_weight=0, region_weight=0))  # text alone has one width
    with pytest.raises(ValueError, match="text states are 6 wide, its image states 8"):
        make_objective(config)
    objective = TargetedDistillation(config, embed_dim=E, text_width=D, image_width=D)
    assert list(objective.heads) == ["all"]
    columns, states = make_columns(), make_states()
    for name in ("image_state", "image_states"):
        states[name] = states[name][..., :D].contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{__name__}.DV", D)
        expected = reference(objective, columns, states)[0]
    assert objective(columns, **states).loss.item() == pytest.approx(expected, rel=2e-5)


def test_a_batch_without_regions_has_no_region_term():
    columns, states = make_columns(), make_states()
    del columns["teacher_region_ids"], columns["teacher_region_embeds"], states["image_states"]
    terms = make_objective(Config())(columns, **states)
    assert terms.regions == 0
    assert terms.loss.item() == pytest.approx(float(terms.image + terms.words + terms.text), rel=1e-6)


def test_regions_without_image_states_or_by_halves_are_refused():
    columns, states = make_columns(), make_states()
    with pytest.raises(ValueError, match="the student gives no image token states"):
        make_objective(Config())(columns, **{**states, "image_states": None})
    del columns["teacher_region_embeds"]
    with pytest.raises(ValueError, match="holds teacher_region_ids alone"):
        make_objective(Config())(columns, **states)


def test_an_image_term_without_an_image_state_is_refused():
    with pytest.raises(ValueError, match=r"image_weight is 1\.0, and the student gives no image state"):
        make_objective(Config())(make_columns(), **{**make_states(), "image_state": None})


def test_regions_of_other_tokens_than_the_student_has_are_refused():
    columns, states = make_columns(), make_states()
    columns["teacher_region_ids"] = columns["teacher_region_ids"][:, :-1]
    with pytest.raises(ValueError, match="image_states hold 5 tokens and teacher_region_ids 4"):
        make_objective(Config())(columns, **states)


@pytest.mark.parametrize("distance", ["cosine", "infonce"])
def test_an_image_state_per_candidate_is_averaged(distance):
    objective = make_objective(Config(distance=distance, confidence="constant"))
    columns, states = make_columns(), make_states(looks=C)
    assert objective(columns, **states).loss.item() == pytest.approx(
        reference(objective, columns, states)[0], rel=2e-5
    )


def test_states_may_keep_the_candidate_dimension():
    objective = make_objective(Config())
    columns, states = make_columns(), make_states(looks=C)
    flat = objective(columns, **states)
    for name in STATES:
        states[name] = states[name].unflatten(0, (B, C))
    assert torch.equal(flat.loss, objective(columns, **states).loss)


def run_ranks(work):
    """Two ranks as threads; gather(x) waits for the other and returns both tensors, concatenated."""
    sent, meet = [None, None], threading.Barrier(2, timeout=20)

    def run(rank):
        def gather(x):
            sent[rank] = x
            meet.wait()
            both = torch.cat(sent)
            meet.wait()
            return both

        return work(rank, gather)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(run, range(2)))


@pytest.mark.parametrize("distance", ["cosine", "infonce"])
def test_two_processes_average_to_one_loss_and_one_gradient(distance):
    """The gathered batch of two ranks is the whole one, though each rank pads its words to its own K."""
    columns, states = make_columns(), make_states()
    columns["teacher_word_mask"][2:, :, K - 1] = False
    columns["teacher_word_ids"][2:][columns["teacher_word_ids"][2:] == K - 1] = -1
    columns["teacher_word_embeds"] *= columns["teacher_word_mask"][..., None]
    config = Config(distance=distance, confidence_over="batch")
    whole = make_objective(config)
    whole_states = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in states.items()}
    expected = whole(columns, **whole_states)
    expected.loss.backward()
    objectives = [make_objective(config), make_objective(config)]
    parts = []
    for rows in (slice(0, 2), slice(2, 4)):
        part = {name: x[rows] for name, x in columns.items()}
        text_rows = slice(rows.start * C, rows.stop * C)
        part_states = {
            name: x[text_rows if name in ("text_states", "text_cls") else rows]
            .clone()
            .requires_grad_(x.is_floating_point())
            for name, x in states.items()
        }
        parts.append((part, part_states))
    for name in ("teacher_word_embeds", "teacher_word_mask"):
        parts[1][0][name] = parts[1][0][name][:, :, : K - 1]

    results = run_ranks(
        lambda rank, gather: (
            objectives[rank],
            objectives[rank](parts[rank][0], gather=gather, **parts[rank][1]),
        ),
    )
    mean = (results[0][1].loss + results[1][1].loss) / 2
    assert mean.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    assert torch.allclose(torch.cat([terms.weights for _, terms in results]), expected.weights, rtol=1e-5)
    mean.backward()
    for name, parameter in whole.named_parameters():
        summed = sum(dict(objective.named_parameters())[name].grad for objective, _ in results)
        assert torch.allclose(summed, parameter.grad, atol=1e-6)
    for name in STATES:
        summed = torch.cat([part_states[name].grad for _, part_states in parts])
        assert torch.allclose(summed, whole_states[name].grad, atol=1e-6)


@pytest.mark.parametrize("config", [Config(), Config(distance="infonce", head="mlp", share_heads="none")])
def test_gradients_reach_student_states_and_heads_only(config):
    objective = make_objective(config)
    columns, states = make_columns(), make_states()
    for x in [*columns.values(), *states.values()]:
        if x.is_floating_point():
            x.requires_grad_()
    terms = objective(columns, **states)
    terms.loss.backward()
    assert all(x.grad is None or not x.grad.any() for x in columns.values() if x.is_floating_point())
    assert states["student_probability"].grad is None
    for name in STATES:
        assert states[name].grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in objective.parameters())
    assert not any(x.requires_grad for x in terms[1:])
    # only the tokens of kept words
    ids, mask = columns["teacher_word_ids"].flatten(0, 1), columns["teacher_word_mask"].flatten(0, 1)
    used = (ids >= 0) & mask.gather(1, ids.clamp(min=0))
    assert not states["text_states"].grad[~used].any()


def test_no_word_anywhere_is_zero_without_nan_and_every_head_has_a_gradient():
    objective = make_objective(Config(share_heads="none"))
    columns, states = make_columns(), make_states()
    columns["teacher_word_mask"][:] = False
    columns["teacher_word_embeds"][:] = 0
    columns["teacher_word_ids"][:] = -1
    columns["teacher_region_ids"][:] = -1
    states["text_states"].requires_grad_()
    terms = objective(columns, **states)
    terms.loss.backward()
    assert terms.words == terms.regions == 0
    assert torch.isfinite(terms.loss)
    assert not states["text_states"].grad.any()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in objective.parameters())


def test_constant_and_uncoupled_weights_are_a_sum_over_instances():
    """What couples_batch promises: the mean over micro-batches is the loss of the batch."""
    columns, states = make_columns(), make_states()
    for config in (Config.for_method("selected"), Config(normalise_weights=False)):
        assert not config.couples_batch
        objective = make_objective(config)
        whole = objective(columns, **states).loss.item()
        losses = []
        for b in range(B):
            part = {name: x[b : b + 1] for name, x in columns.items()}
            part_states = {
                name: x[b * C : (b + 1) * C] if name in ("text_states", "text_cls") else x[b : b + 1]
                for name, x in states.items()
            }
            losses.append(objective(part, **part_states).loss.item())
        assert sum(losses) / B == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize(
    ("config", "heads"),
    [
        (Config(), ["image", "text"]),
        (Config(share_heads="none"), ["image", "regions", "text", "words"]),
        (Config(share_heads="none", word_weight=0), ["image", "regions", "text"]),
        (Config(image_weight=0, region_weight=0, text_weight=0), ["text"]),
        (Config(image_weight=0, text_weight=0), ["image", "text"]),
        (Config(image_weight=0, region_weight=0, text_weight=0, share_heads="none"), ["words"]),
        (Config.for_method("none"), []),
    ],
)
def test_heads_exist_for_terms_with_weight(config, heads):
    objective = make_objective(config)
    assert sorted(objective.heads) == heads
    states = make_states()
    if "image" not in heads:
        states["image_state"] = states["image_states"] = None
    terms = objective(make_columns(), **states)
    assert torch.isfinite(terms.loss)
    assert terms.loss.requires_grad == bool(heads)


def test_float32_under_autocast_and_for_half_states():
    objective = make_objective(Config(distance="infonce"))
    columns, states = make_columns(), make_states()
    plain = objective(columns, **states)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective(columns, **states).loss, plain.loss)
    half = {name: x.bfloat16() if name in STATES else x for name, x in states.items()}
    loss = objective(columns, **half).loss
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.loss.item(), rel=0.02)
    assert objective.bfloat16()(columns, **half).loss.dtype == torch.float32


def test_mean_by_word_by_hand():
    states = torch.arange(12.0).view(2, 3, 2)
    means, present = mean_by_word(states, torch.tensor([[1, 1, 0], [-1, -1, 2]]), 3)
    assert means.tolist() == [[[4, 5], [1, 2], [0, 0]], [[0, 0], [0, 0], [10, 11]]]
    assert present.tolist() == [[True, True, False], [False, False, True]]


def test_single_candidate_uses_the_batch_or_the_sigmoid():
    columns, states = make_columns(), make_states()
    per_instance = ("teacher_image_embeds", "teacher_region_embeds", "teacher_region_ids")
    columns = {name: x if name in per_instance else x[:, :1] for name, x in columns.items()}
    states = {**make_states(candidates=1), "labels": None}
    config = Config(confidence="teacher", normalise_weights=False, confidence_eps=1e-9)
    sigmoid = make_objective(config, logit_bias=-10.0)(columns, **states).weights
    assert sigmoid.tolist() == pytest.approx(columns["teacher_match"][:, 0].sigmoid().tolist(), rel=1e-5)
    with pytest.raises(ValueError, match='say confidence_over="batch"'):
        make_objective(config, logit_scale=5.0)(columns, **states)
    config = replace(config, confidence_over="batch")
    batch = make_objective(config, logit_scale=5.0)(columns, **states).weights
    logits = 5 * columns["teacher_image_embeds"] @ columns["teacher_text_embeds"][:, 0].T
    assert batch.tolist() == pytest.approx(logits.softmax(1).diagonal().tolist(), rel=1e-4)
    whole = make_columns(seed=3)["teacher_text_embeds"][:, :1]  # where sentence targets are of selected words
    batch = make_objective(config, logit_scale=5.0)({**columns, "teacher_whole_text_embeds": whole}, **states)
    logits = 5 * columns["teacher_image_embeds"] @ whole[:, 0].T
    assert batch.weights.tolist() == pytest.approx(logits.softmax(1).diagonal().tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "teacher_match"}, "lacks the teacher's columns teacher_match; collate it with"),
        ({"teacher_match": torch.zeros(B)}, r"teacher_match has shape \(4,\)"),
        (
            {"teacher_image_embeds": torch.zeros(B, E + 1)},
            r"teacher_image_embeds has shape \(4, 6\); expected \(4, 5\)",
        ),
        ({"teacher_word_embeds": torch.zeros(B, C, E)}, r"teacher_word_embeds has shape \(4, 3, 5\)"),
        (
            {"teacher_word_mask": torch.zeros(B, C, K + 1)},
            r"teacher_word_mask has shape .* expected \(4, 3, 4\)",
        ),
        (
            {"text_states": torch.zeros(B, T, D)},
            r"text_states has shape \(4, 7, 6\); expected \(12, tokens, 6\)",
        ),
        ({"text_states": torch.zeros(B * C, T + 1, D)}, "text_states hold 8 tokens and teacher_word_ids 7"),
        ({"text_cls": torch.zeros(B * C, D + 1)}, r"text_cls has shape \(12, 7\); expected \(12, 6\)"),
        (
            {"image_state": torch.zeros(5, DV)},
            r"image_state has shape \(5, 8\); expected \(4, 8\) or \(12, 8\)",
        ),
        ({"labels": None}, "confidence weights with 3 candidates need labels"),
        ({"student_probability": None}, "needs student_probability"),
    ],
)
def test_errors_name_what_does_not_fit(change, message):
    columns, states = make_columns(), make_states()
    for name, value in change.items():
        if name == "drop":
            del columns[value]
        else:
            (columns if name.startswith("teacher_") else states)[name] = value
    with pytest.raises(ValueError, match=message):
        make_objective(Config())(columns, **states)


def test_right_candidates_need_labels():
    config = replace(Config(), confidence="constant", text_candidates="right")
    with pytest.raises(ValueError, match='text_candidates="right" with 3 candidates need labels'):
        make_objective(config)(make_columns(), **{**make_states(), "labels": None})


def test_rivals_of_a_single_candidate_give_the_weights():
    columns, states = make_columns(candidates=1), make_states(candidates=1)
    columns["teacher_rival_match"] = torch.tensor(
        [[0.3, 1.0], [2.0, -torch.inf], [-torch.inf] * 2, [0.0, 0.0]]
    )
    found = make_objective(Config(confidence="teacher"))(columns, **states).weights
    teacher = []
    for match, rivals in zip(
        columns["teacher_match"][:, 0].tolist(), columns["teacher_rival_match"].tolist(), strict=True
    ):
        teacher.append(math.exp(match) / (math.exp(match) + sum(map(math.exp, rivals))))
    expected = [p / (sum(teacher) / B) for p in teacher]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    columns["teacher_rival_match"] = torch.zeros(B + 1, 2)
    with pytest.raises(ValueError, match=r"teacher_rival_match has shape \(5, 2\); expected \(4, 2\)"):
        make_objective(Config())(columns, **states)


def test_without_labels_the_teachers_probability_alone_weighs():
    columns, states = make_columns(candidates=1), make_states(candidates=1)
    states |= {"student_probability": None, "labels": None}
    objective = make_objective(Config(confidence="ratio"))
    with pytest.raises(ValueError, match='mode "ratio" needs student_probability'):
        objective(columns, **states)
    teacher = make_objective(Config(confidence="teacher"))(columns, **states).weights
    assert torch.equal(objective(columns, **states, labelled=False).weights, teacher)


@pytest.mark.parametrize("distance", ["cosine", "infonce"])
def test_a_batch_without_any_box_has_no_region_term(distance):
    objective = make_objective(Config(distance=distance))
    columns, states = make_columns(), make_states()
    columns["teacher_region_embeds"] = columns["teacher_region_embeds"][:, :0]
    columns["teacher_region_ids"] = torch.full_like(columns["teacher_region_ids"], -1)
    terms = objective(columns, **states)
    terms.loss.backward()
    assert torch.isfinite(terms.loss)
    assert terms.regions == 0
