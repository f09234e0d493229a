"""inherit_weights.py and export.py as typed: half of the shipped teacher, as a folder open_clip loads; and ONNX."""

import json
import shutil

import open_clip
import pytest
import torch
from PIL import Image

from cliptd.teachers import load_teacher
from tasks.iconworld.models import TEACHER
from tests.helpers.commands import run_script


def test_half_of_the_shipped_teacher(cache, tmp_path):
    out = tmp_path / "student"
    done = run_script(
        "inherit_weights.py", "--teacher", TEACHER, "--layers", 3, "--width", 128, "--text-layers", 1, "--text-width",
        64, "--embed-dim", 96, "--patch-size", 8, "--how", "magnitude", "--out", out, launcher=None, cache=cache,
    )  # fmt: skip
    config = json.loads((out / "open_clip_config.json").read_text())["model_cfg"]
    assert config["embed_dim"] == 96
    assert config["vision_cfg"] == {
        "image_size": 64, "layers": 3, "width": 128, "head_width": 64, "patch_size": 8
    }  # fmt: skip
    assert (config["text_cfg"]["layers"], config["text_cfg"]["width"], config["text_cfg"]["heads"]) == (
        1,
        64,
        2,
    )
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{out}")
    report, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("{"))
    parameters = report["parameters"]
    assert parameters["student"] == sum(p.numel() for p in model.parameters()) < parameters["teacher"]
    assert (
        f"Next: accelerate launch scripts/distill_embeddings.py --teacher {TEACHER} --student {out}"
        in done.stdout
    )
    image, texts = Image.new("RGB", (80, 64), (200, 30, 60)), ["a red square", "two dogs"]
    tokens = open_clip.get_tokenizer(f"local-dir:{out}")(texts)
    with torch.no_grad():
        images = model.eval().encode_image(transform(image)[None], normalize=True)
        texts_embeds = model.encode_text(tokens, normalize=True)
    student = load_teacher(str(out))
    torch.testing.assert_close(student.encode_images([image]), images)
    torch.testing.assert_close(student.encode_texts(texts), texts_embeds)
    teacher = load_teacher(str(TEACHER))
    assert torch.equal(student.model.logit_scale, teacher.model.logit_scale)


@pytest.mark.slow
def test_a_student_of_ones_own_config_inherits(cache, tmp_path):
    config = json.loads((TEACHER / "open_clip_config.json").read_text())["model_cfg"]
    config["vision_cfg"] |= {"layers": 2, "width": 128}
    (tmp_path / "small.json").write_text(json.dumps(config))
    arguments = ("--teacher", TEACHER, "--student", tmp_path / "small.json", "--out", tmp_path / "out")
    run_script("inherit_weights.py", *arguments, launcher=None, cache=cache)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'out'}")
    whole = load_teacher(str(TEACHER)).model
    assert model.visual.conv1.weight.equal(whole.visual.conv1.weight[:128])
    done = run_script(
        "inherit_weights.py", *arguments, "--width", 64, launcher=None, cache=cache, check=False
    )
    assert done.returncode
    assert "--student names all sizes, and width another" in done.stdout


@pytest.mark.slow
def test_a_teachers_own_folder_is_not_overwritten(cache, tmp_path):
    teacher = shutil.copytree(TEACHER, tmp_path / "teacher")
    arguments = ("--teacher", teacher, "--layers", 3, "--out", tmp_path / "other" / ".." / "teacher")
    done = run_script("inherit_weights.py", *arguments, launcher=None, cache=cache, check=False)
    assert done.returncode
    assert "is the teacher's own folder; choose another one" in done.stdout
    assert load_teacher(str(teacher)).fingerprint == load_teacher(str(TEACHER)).fingerprint


@pytest.mark.slow
def test_the_shipped_teacher_as_onnx(cache, tmp_path):
    done = run_script(
        "export.py", "--model", TEACHER, "--rounds", 1, "--batch-sizes", 1, 3, "--out", tmp_path, launcher=None,
        cache=cache,
    )  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} >= {"image.onnx", "text.onnx", "export.json"}
    table = (tmp_path / "latency.md").read_text()
    assert "| tower | batch | torch | onnxruntime |" in table
    assert len(table.strip().splitlines()) == 2 + 2 + 4
    assert "Largest difference from torch: image" in done.stdout
    done = run_script(
        "export.py",
        "--model",
        TEACHER,
        "--reparameterize",
        "--out",
        tmp_path,
        launcher=None,
        cache=cache,
        check=False,
    )
    assert done.returncode != 0
    assert "has no branches to fuse" in done.stdout
    done = run_script(
        "export.py", "--model", "ViT-S-32-alt", "--out", tmp_path, launcher=None, cache=cache, check=False
    )
    assert done.returncode != 0
    assert "has no weights; name its --pretrained tag" in " ".join(done.stdout.split())
