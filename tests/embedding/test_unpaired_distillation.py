"""Runs of DIME-FM: a tower in the teacher's place learns from images and sentences that are no pairs."""

import json

import pytest
import torch

from cliptd.data.pairs.pair import Pair
from cliptd.embedding import losses
from cliptd.embedding.config import Distillation
from cliptd.embedding.loss_weights import DimeFm, LossWeights
from cliptd.embedding.objective import EmbeddingObjective, Embeds
from cliptd.embedding.student import in_the_place_of, load_student
from cliptd.teachers import load_teacher
from cliptd.unpaired.images_and_sentences import ImagesOf, TextsOf, UnpairedPairs
from tests.embedding.test_compression import TRAINING, WORDS, run
from tests.embedding.test_compression import losses as logged
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_image, tiny_open_clip_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), seed=1)


@pytest.fixture(scope="module")
def teacher(folder):
    return load_teacher(str(folder))


@pytest.fixture
def student(folder, tmp_path):
    """A fresh student of a config with other widths."""
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["embed_dim"] = 8
    config["model_cfg"]["vision_cfg"]["layers"] = 1
    config["model_cfg"]["text_cfg"]["layers"] = 1
    (tmp_path / "small.json").write_text(json.dumps(config))
    return load_student(str(tmp_path / "small.json"), teacher=load_teacher(str(folder)))


@pytest.fixture
def pairs():
    images = [Pair(f"{k}.png", tiny_image(k), "") for k in range(6)]
    return UnpairedPairs(
        ImagesOf(images), TextsOf([Pair("", None, f"a photo of a {word}") for word in WORDS])
    )


def test_each_tower_is_taught_by_the_formula_of_its_own_side():
    generator = torch.Generator().manual_seed(0)
    s_image, s_text, t_image, t_text = torch.randn(4, 5, 8, generator=generator)
    mix = DimeFm(vl_weight=0.2, pvl_weight=0.5, udist_weight=0.4, logit_scale=20.0)
    objective = EmbeddingObjective(
        LossWeights(dime_fm_image=2, dime_fm_text=3, feature=1), student_dim=8, teacher_dim=8, dime_fm=mix
    )
    total, terms = objective(Embeds(s_image, s_text, 10.0), Embeds(t_image, t_text, 100.0))
    image = losses.dime_fm(student_image=s_image, teacher_image=t_image, teacher_text=t_text, **vars(mix))
    text = losses.dime_fm(student_image=s_text, teacher_image=t_text, teacher_text=t_image, **vars(mix))
    torch.testing.assert_close(terms["dime_fm_image"], image)
    torch.testing.assert_close(total, 2 * image + 3 * text + terms["feature"])


@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_in_the_teachers_place_and_the_other_the_teachers(tower, student, teacher, pairs, tmp_path):
    made = in_the_place_of(teacher, student, (tower,))
    frozen = "text" if tower == "image" else "image"
    embed = {"image": lambda m: m.encode_images([tiny_image(9)]), "text": lambda m: m.encode_texts(["a dog"])}
    before = {side: call(made) for side, call in embed.items()}
    torch.testing.assert_close(before[frozen], embed[frozen](teacher))
    assert made.model.logit_scale.exp().item() == pytest.approx(teacher.logit_scale)
    run(made, teacher, pairs, tmp_path / "run", objective="dime-fm", freeze=(frozen,))
    torch.testing.assert_close(embed[frozen](made), before[frozen])
    assert not torch.allclose(embed[tower](made), before[tower])
    line = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert f"loss_dime_fm_{tower}" in line
    assert f"loss_dime_fm_{frozen}" not in line
    again = load_teacher(str(made.save(tmp_path / "model")))
    torch.testing.assert_close(again.encode_texts(["a dog"]), embed["text"](made))


def test_a_stored_teacher_teaches_crops_as_often_seen(student, teacher, pairs, tmp_path):
    changes = {"objective": "dime-fm", "crop": (0.5, 1.0), "crops": 2, "source": "store"}
    found = [
        run(
            in_the_place_of(teacher, student, ("image", "text")),
            teacher,
            pairs,
            tmp_path / name / "run",
            **changes,
        )
        for name in ("one", "two")
    ]
    assert len(found) == 2
    assert logged(tmp_path / "one" / "run") == logged(tmp_path / "two" / "run")
    assert (tmp_path / "one" / "store" / "index.json").exists()


def test_both_towers_learn_beside_an_ensemble(student, teacher, pairs, tmp_path):
    other = tiny_hf_folder(tmp_path / "hf", embed_dim=8, seed=2)
    ensemble = load_teacher(f"{teacher.name},hf:{other}")
    made = in_the_place_of(ensemble, student, ("image", "text"))
    assert made.embed_dim == ensemble.embed_dim
    assert made.fresh
    assert made.model.logit_scale.exp().item() == pytest.approx(ensemble.logit_scale)
    run(made, ensemble, pairs, tmp_path / "run", objective="dime-fm")
    assert len(logged(tmp_path / "run")) == TRAINING.steps
    with pytest.raises(
        ValueError, match=r"only the image tower learns, so the other is the teacher's, but .* is no single"
    ):
        in_the_place_of(ensemble, student, ("image",))


def test_what_cannot_be_learned_unpaired_is_refused(student, teacher, pairs, tmp_path):
    with pytest.raises(ValueError, match=r"contrastive: needs texts that are true of their images"):
        run(student, teacher, pairs, tmp_path, weights={"contrastive": 1.0, "feature": 1.0})
    with pytest.raises(
        ValueError, match=r"embeddings are 8 wide and the teacher's \d+.*give the student embed_dim"
    ):
        run(student, teacher, pairs, tmp_path, objective="dime-fm")
    with pytest.raises(ValueError, match="freeze names both towers"):
        Distillation(objective="dime-fm", freeze=("image", "text"))
    with pytest.raises(
        ValueError, match="no loss reads the text tower, so it would learn nothing; freeze it"
    ):
        Distillation(weights={"dime_fm_image": 1.0})
    for wrong in ({"vl_weight": -1.0}, {"pvl_temperature": 0.0}, {"logit_scale": float("nan")}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*, expected a finite number"):
            DimeFm(**wrong)
    other = in_the_place_of(teacher, student, ("image", "text"))
    with pytest.raises(ValueError, match=r"the frozen text tower embeds unlike the teacher's \(mean cosine"):
        run(other, teacher, pairs, tmp_path / "other", objective="dime-fm", freeze=("text",))
    with pytest.raises(ValueError, match="are all 0; give one a weight"):
        DimeFm(vl_weight=0, pvl_weight=0)
