"""The distiller on tiny models: live and stored teachers, ensembles, projections, frozen towers, bad samples."""

import copy
import math

import pytest
import torch

from cliptd.data.bad_samples import BadSample, BadSampleList
from cliptd.data.pairs.pair import Pair
from cliptd.embedding import losses
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.distiller import EmbeddingDistiller
from cliptd.embedding.loss_weights import OBJECTIVES, LossWeights
from cliptd.embedding.objective import EmbeddingObjective, Embeds
from cliptd.embedding.pair_store import store_pairs
from cliptd.store.reader import TeacherStore
from cliptd.store.writer import StoreWriter
from cliptd.teachers import load_teacher
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_image, tiny_open_clip_folder

TEXTS = ["a red dog", "a small house on the left", "two birds", "a man is looking at her"]


def pairs():
    return [Pair(f"{k}.png", tiny_image(k), text) for k, text in enumerate(TEXTS)]


def broken():
    raise ValueError("image 9.png is corrupt")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A student of another width than the teacher, with its transform and tokenizer."""
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("student"), embed_dim=12, seed=3)))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return load_teacher(str(tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), embed_dim=16, seed=1)))


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory, teacher):
    other = tiny_hf_folder(tmp_path_factory.mktemp("hf"), embed_dim=8, seed=2)
    return load_teacher(f"{teacher.name},hf:{other}")


def distiller(reader, weights, *, dim=16, **options):
    torch.manual_seed(0)
    student = copy.deepcopy(reader.model).requires_grad_(True)
    objective = EmbeddingObjective(weights, student_dim=12, teacher_dim=dim)
    return EmbeddingDistiller(student, objective, **options).train()


EVERYTHING = LossWeights(affinity=1, feature=3, relation=0.5, interactive=2, contrastive=0.25)


def test_a_store_teaches_what_the_live_teacher_does(reader, teacher, tmp_path):
    with StoreWriter(tmp_path, teacher, dtype="float32") as writer:
        writer.image_embeds([pair.key for pair in pairs()], [pair.image for pair in pairs()])
        writer.text_embeds(TEXTS)
    store = TeacherStore.open(tmp_path, teacher)
    live = distiller(reader, EVERYTHING, teacher=teacher)
    stored = distiller(reader, EVERYTHING, teacher_scale=store.logit_scale)
    losses = []
    for model, collate in (
        (live, StudentTeacherCollator(reader, teacher=teacher)),
        (stored, StudentTeacherCollator(reader, source=store)),
    ):
        loss = model(**collate(pairs()))["loss"]
        loss.backward()
        losses.append(loss)
    torch.testing.assert_close(losses[0], losses[1])
    for own, other in zip(live.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert not any("teacher" in name for name in live.state_dict())
    assert all(p.grad is None for p in teacher.model.parameters())


def test_an_ensemble_is_asked_with_each_members_own_eyes(reader, ensemble):
    model = distiller(reader, LossWeights(affinity=1), dim=ensemble.embed_dim, teacher=ensemble)
    found = model(**StudentTeacherCollator(reader, teacher=ensemble)(pairs()))["loss"]
    expected = losses.affinity_mimicking(
        student_image=model.student.encode_image(
            torch.stack([reader.image_transform(p.image) for p in pairs()])
        ),
        student_text=model.student.encode_text(reader.tokenize(TEXTS)),
        teacher_image=ensemble.encode_images([pair.image for pair in pairs()]),
        teacher_text=ensemble.encode_texts(TEXTS),
    )
    torch.testing.assert_close(found, expected)


def test_what_a_teacher_reads_as_the_student_does_is_read_once(reader, teacher, ensemble, tmp_path):
    other = load_teacher(str(tiny_open_clip_folder(tmp_path, seed=1, mean=0.25)))
    expected = {teacher: [set()], other: [{"pixels"}], ensemble: [set(), {"pixels", "tokens"}]}
    for asked, names in expected.items():
        columns = StudentTeacherCollator(reader, teacher=asked)(pairs())
        assert [set(member) for member in columns["teacher_inputs"]] == names
        model = distiller(reader, LossWeights(affinity=1), dim=asked.embed_dim, teacher=asked)
        image, text = model._ask(columns["teacher_inputs"], columns["pixel_values"], columns["input_ids"])
        torch.testing.assert_close(image, asked.encode_images([pair.image for pair in pairs()]))
        torch.testing.assert_close(text, asked.encode_texts(TEXTS))


def test_the_mix_is_the_weighted_sum_of_its_losses():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        Embeds(
            torch.randn(5, dim, generator=generator), torch.randn(5, dim, generator=generator), scale, -3.0
        )
        for dim, scale in ((12, 20.0), (16, 30.0))
    )
    weights = LossWeights(affinity=1, feature=3, relation=0.5, interactive=2, contrastive=0.25, sigmoid=0.1)
    objective = EmbeddingObjective(weights, student_dim=12, teacher_dim=16)
    total, terms = objective(student, teacher)
    both = dict(zip(("student_image", "student_text"), student[:2], strict=True))
    both |= dict(zip(("teacher_image", "teacher_text"), teacher[:2], strict=True))
    image, text = (
        student.image @ objective.project_image.weight.T,
        student.text @ objective.project_text.weight.T,
    )
    expected = {
        "affinity": losses.affinity_mimicking(**both, student_scale=50, teacher_scale=50),
        "relation": losses.contrastive_relation(**both, student_scale=20, teacher_scale=30),
        "feature": losses.feature_mimicking(student=image, teacher=teacher.image)
        + losses.feature_mimicking(student=text, teacher=teacher.text),
        "interactive": losses.interactive_contrastive(
            **both | {"student_image": image, "student_text": text}, scale=1 / 0.07
        ),
        "contrastive": losses.contrastive(image=student.image, text=student.text, scale=20),
        "sigmoid": losses.sigmoid(image=student.image, text=student.text, scale=20, bias=-3),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value.detach())
    torch.testing.assert_close(total, sum(getattr(weights, name) * value for name, value in expected.items()))
    own = EmbeddingObjective(LossWeights(affinity=1), student_dim=12, teacher_dim=16, affinity_scale=None)
    expected = losses.affinity_mimicking(**both, student_scale=20, teacher_scale=30)
    torch.testing.assert_close(own(student, teacher)[0], expected)


@pytest.mark.parametrize(("weights", "projects"), [(EVERYTHING, True), (LossWeights(relation=1), False)])
def test_a_student_of_another_width_is_projected_where_a_loss_needs_it(weights, projects):
    narrow = EmbeddingObjective(weights, student_dim=12, teacher_dim=16).state_dict()
    alike = EmbeddingObjective(weights, student_dim=16, teacher_dim=16).state_dict()
    assert ("project_image.weight" in narrow) == projects
    assert not any("project" in name for name in alike)


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_frozen_tower_stays_as_it_is(reader, teacher, tower):
    model = distiller(reader, LossWeights(affinity=1), teacher=teacher, frozen=(tower,))
    before = {name: value.clone() for name, value in model.student.state_dict().items()}
    model(**StudentTeacherCollator(reader, teacher=teacher)(pairs()))["loss"].backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.optim.SGD(trained, lr=0.1).step()
    changed = {
        name for name, value in model.student.state_dict().items() if not torch.equal(value, before[name])
    }
    of_image = {name for name in before if name.startswith("visual.")}
    of_text = set(before) - of_image - {"logit_scale"}
    assert changed
    assert not changed & (of_image if tower == "image" else of_text)
    assert changed & (of_text if tower == "image" else of_image)
    assert model.student.visual.training != (tower == "image")


def test_the_logit_scale_never_exceeds_a_hundred(reader):
    model = distiller(reader, LossWeights(contrastive=1))
    with torch.no_grad():
        model.student.logit_scale.fill_(9.0)
    model(**StudentTeacherCollator(reader)(pairs()))
    assert model.student.logit_scale.item() == pytest.approx(math.log(100))
    untrained = distiller(reader, LossWeights(contrastive=1))
    untrained.trains_scale = False
    with torch.no_grad():
        untrained.student.logit_scale.fill_(math.log(117.0))  # a SigLIP's
    untrained(**StudentTeacherCollator(reader)(pairs()))
    assert untrained.student.logit_scale.item() == pytest.approx(math.log(117.0))


def test_bad_pairs_are_left_out_and_listed(reader, teacher, tmp_path):
    with_bad = [*pairs()[:2], Pair("9.png", broken, "a dog"), *pairs()[2:]]
    opened = OpenedPairs(with_bad, on_bad_sample="skip")
    collate = StudentTeacherCollator(
        reader, teacher=teacher, bad_samples=BadSampleList(tmp_path / "bad_samples.txt")
    )
    columns = collate([opened[k] for k in range(len(opened))])
    assert len(columns["pixel_values"]) == len(columns["input_ids"]) == len(TEXTS)
    torch.testing.assert_close(columns["pixel_values"], collate(pairs())["pixel_values"])
    assert (tmp_path / "bad_samples.txt").read_text() == "image 9.png is corrupt\n"
    collate([opened[k] for k in range(len(opened))])  # the next epoch
    assert (tmp_path / "bad_samples.txt").read_text() == "image 9.png is corrupt\n"
    assert store_pairs(tmp_path / "store", teacher, opened) == ["image 9.png is corrupt"]
    store = TeacherStore.open(tmp_path / "store", teacher)
    cosine = (store.text_embeds(TEXTS) * teacher.encode_texts(TEXTS)).sum(1)
    torch.testing.assert_close(cosine, torch.ones(len(TEXTS)), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match=r"image 9\.png is corrupt"):
        OpenedPairs(with_bad)[2]
    with pytest.raises(
        ValueError, match=r"none of the 1 samples of a batch could be read; the first: image 9\.png"
    ):
        collate([BadSample("image 9.png is corrupt")])


def test_what_is_missing_is_said(reader, teacher):
    batch = StudentTeacherCollator(reader)(pairs())
    with pytest.raises(ValueError, match="neither teacher_image and teacher_text nor, with a live teacher"):
        distiller(reader, LossWeights(affinity=1), teacher=teacher)(**batch)
    with pytest.raises(ValueError, match="needs a student with a logit bias"):
        distiller(reader, LossWeights(sigmoid=1))(**batch)
    with pytest.raises(ValueError, match="every loss has weight 0"):
        LossWeights()
    with pytest.raises(ValueError, match="the weight of affinity is -1, expected a finite number"):
        LossWeights(affinity=-1)
    assert OBJECTIVES["clip_kd"].needs_teacher
    assert not OBJECTIVES["contrastive"].needs_teacher
