"""The model card: its head for the Hub, its code that loads the model, and no path of this machine."""

import json
import os
import re

import pytest
import torch
from huggingface_hub import ModelCard

from cliptd.embedding.model_card import public_name, write_model_card
from cliptd.embedding.student import load_student
from tests.helpers.tiny_clip import tiny_open_clip_folder


@pytest.fixture
def student(tmp_path):
    return load_student(str(tiny_open_clip_folder(tmp_path / "my home" / "small teacher")))


def write(student, folder, **changes):
    student.save(folder)
    facts = {
        "name": f"0.5 of {student.name}",
        "starts_from": student.name,
        "teachers": [student.name, "ViT-B-16, openai"],
        "losses": ["affinity", "feature"],
        "data": [f"{folder.parent}/pairs/{{000..099}}.tar"],
        "training": "300 steps of 64 examples",
        "scores": [
            {"model": f"teacher {student.name}", "top1": 90.0},
            {
                "model": student.name,
                "parameters": 5,
                "top1": 81.5,
                "top1, unseen families": 70.25,
                "odd": 1.0,
            },
        ],
        "scored_on": f"{folder.parent}/birds",
        "settings": {"training": {"steps": 300}, "teacher": student.name},
    }
    write_model_card(folder, student, **facts | changes)
    return ModelCard.load(folder / "README.md")


def test_the_hub_reads_its_head(student, tmp_path):
    card = write(student, tmp_path / "model", license_id="apache-2.0", data=["iconworld"])
    head = card.data
    assert (head.get("library_name"), head.license, head.datasets) == (
        "open_clip",
        "apache-2.0",
        ["iconworld"],
    )
    assert head.base_model == ["timm/vit_base_patch16_clip_224.openai"]  # the other teacher is a local folder
    assert head.pipeline_tag == "zero-shot-image-classification"
    assert head.model_name == "0.5 of small teacher"
    found = {result.dataset_name: (result.metric_type, result.metric_value) for result in head.eval_results}
    assert found == {"birds": ("accuracy", 81.5), "birds, unseen families": ("accuracy", 70.25)}


def test_the_text_says_how_it_was_made(student, tmp_path):
    text = write(student, tmp_path / "model").text
    assert (
        "Distilled by cliptd from small teacher and ViT-B-16, openai (affinity, feature) on pairs/{000..099}.tar: "
        "300 steps of 64 examples." in text
    )
    assert "Training began with small teacher." in text
    assert "| teacher small teacher | 90.00 |" in text
    assert "Nobody has chosen a licence yet. Check the terms of the teachers and the data" in text


def test_without_a_teacher_or_scores(student, tmp_path):
    card = write(
        student, tmp_path / "model", teachers=[], scores=[], scored_on=None, name="mine", starts_from="fresh"
    )
    assert "Trained by cliptd (affinity, feature) on" in card.text
    assert "eacher" not in card.text
    assert "Results" not in card.text
    assert "base_model" not in card.data.to_dict()
    assert card.data.eval_results is None


def test_no_path_of_this_machine_is_in_it(student, tmp_path):
    write(student, tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    for part in (str(tmp_path), "my home", os.path.expanduser("~")):
        assert part not in text


@pytest.mark.parametrize("bias", [None, -10.0])
def test_its_code_loads_the_model_and_runs(bias, tmp_path, monkeypatch, capsys):
    student = load_student(str(tiny_open_clip_folder(tmp_path / "teacher", init_logit_bias=bias)))
    text = write(student, tmp_path / "model").text
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path / "model")
    names = {}
    exec(code, names)
    assert torch.equal(names["texts"], student.tokenize(["a photo of a dog", "a photo of a cat"]))
    expected = student.encode_images([names["Image"].new("RGB", (640, 480), "gray")])
    torch.testing.assert_close(names["image_embeds"], expected)
    logits = (
        student.model.logit_scale.exp()
        * expected
        @ student.encode_texts(["a photo of a dog", "a photo of a cat"]).T
    )
    probabilities = logits.softmax(-1) if bias is None else (logits + bias).sigmoid()
    assert capsys.readouterr().out.strip() == str(probabilities.detach())


def test_card_json_keeps_settings_scores_and_versions(student, tmp_path):
    write(student, tmp_path / "model")
    card = json.loads((tmp_path / "model" / "card.json").read_text())
    assert card["settings"] == {"training": {"steps": 300}, "teacher": student.name}
    assert card["parameters"] == student.parameters
    assert card["zero_shot_percent"][1]["top1"] == 81.5
    assert card["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"python", "open_clip_torch"} <= set(card["versions"])


def test_public_names(tmp_path, monkeypatch):
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("runs/teacher") == "teacher"
    assert public_name("hf:runs/teacher") == "teacher"
    assert public_name("local-dir:runs/teacher") == "teacher"
    assert public_name("image of ~/models/a.json") == "image of a.json"
    assert public_name("../elsewhere") == "elsewhere"
    assert public_name("hf-hub:laion/some-model") == "hf-hub:laion/some-model"
    assert public_name("shards/*.tar") == "shards/*.tar"
