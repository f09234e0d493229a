"""The student that training begins with: named, in the place of a tower, or inheriting from the teacher."""

import json
import shutil

import pytest
import torch

from cliptd.embedding.config import Distillation
from cliptd.embedding.first_student import inheriting_student, named_student
from cliptd.teachers import load_teacher
from cliptd.teachers.from_open_clip import CONFIG, WEIGHTS
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_open_clip_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_open_clip_folder(tmp_path_factory.mktemp("teachers") / "teacher", seed=1)


@pytest.fixture(scope="module")
def config(folder):
    path = folder.parent / "small.json"
    model_cfg = json.loads((folder / CONFIG).read_text())["model_cfg"]
    model_cfg["vision_cfg"]["layers"] = 1
    path.write_text(json.dumps({"model_cfg": model_cfg}))
    return path


@pytest.fixture(scope="module")
def without_weights(folder):
    """An open_clip folder with a tokenizer and no weights."""
    path = shutil.copytree(folder, folder.parent / "without weights")
    (path / WEIGHTS).unlink()
    return path


def matrices(model):
    return sum(p.numel() for p in model.visual.transformer.parameters() if p.ndim > 1)


def test_half_of_the_teacher(folder):
    whole = inheriting_student(str(folder), None, Distillation(), share=None)
    half = inheriting_student(str(folder), None, Distillation(), share=0.5)
    assert matrices(half.model) == matrices(whole.model) / 2
    assert half.name == "0.5 of teacher"
    assert half.config["preprocess_cfg"] == whole.config["preprocess_cfg"]
    assert not half.fresh


def test_a_frozen_tower_is_inherited_whole(folder):
    settings = Distillation(objective="dime-fm", freeze=("text",))
    half = inheriting_student(str(folder), None, settings, share=0.5)
    whole = load_teacher(str(folder)).model
    assert torch.equal(half.model.text_projection, whole.text_projection)
    assert half.model.visual.conv1.out_channels * len(half.model.visual.transformer.resblocks) < 64


def test_nothing_is_inherited_from_an_ensemble_or_a_transformers_model(folder):
    for name in (f"{folder},{folder}", "hf:openai/clip-vit-base-patch32"):
        with pytest.raises(ValueError, match="is no single open_clip model to inherit from; name a student"):
            inheriting_student(name, None, Distillation(), share=0.5)


def test_a_config_reads_as_the_teacher_does(folder, config):
    teacher = load_teacher(str(folder))
    student = named_student(str(config), None, Distillation(), teacher=teacher)
    assert student.fresh
    assert student.config["preprocess_cfg"]["resize_mode"] == "squash"
    assert torch.equal(student.tokenize(["a dog"]), teacher.tokenize(["a dog"]))


def test_a_fresh_tower_takes_the_place_of_the_teachers(folder, config, without_weights):
    teacher = load_teacher(str(folder))
    settings = Distillation(objective="dime-fm", freeze=("text",))
    student = named_student(str(config), None, settings, teacher=teacher)
    assert torch.equal(student.encode_texts(["a dog"]), teacher.encode_texts(["a dog"]))
    assert len(student.model.visual.transformer.resblocks) == 1
    with pytest.raises(ValueError, match="takes the place of a teacher, and there is none"):
        named_student(str(without_weights), None, settings, teacher=None)


def test_a_student_with_weights_keeps_them_whatever_the_objective(folder):
    teacher = load_teacher(str(folder))
    student = named_student(str(folder), None, Distillation(objective="dime-fm"), teacher=teacher)
    assert not student.fresh
    assert torch.equal(student.model.visual.proj, teacher.model.visual.proj)


def test_stages_do_not_begin_with_a_student_without_weights(folder, without_weights, tmp_path):
    ensemble = load_teacher(f"{folder},hf:{tiny_hf_folder(tmp_path)}")
    with pytest.raises(ValueError, match="has no weights, and progressive stages inherit"):
        named_student(str(without_weights), None, Distillation(), teacher=ensemble, shrinks=True)
    named_student(str(folder), None, Distillation(), teacher=ensemble, shrinks=True)
