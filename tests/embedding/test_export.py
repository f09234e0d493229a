"""Exported towers: onnxruntime's embeddings equal torch's, fused or not, and impossible exports are refused."""

import json

import onnxruntime
import pytest
import torch

from cliptd.embedding.export import export_onnx, fused, latencies
from cliptd.embedding.student import load_student
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return load_student(str(tiny_open_clip_folder(tmp_path_factory.mktemp("model"), seed=1)))


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A student with FastViT, MobileCLIP's architecture, and batch norms as after training."""
    folder = tmp_path_factory.mktemp("mobile")
    config = {
        "embed_dim": 16,
        "vision_cfg": {
            "timm_model_name": "fastvit_t8",
            "image_size": 64,
            "timm_pool": "avg",
            "timm_proj": None,
        },
        "text_cfg": {"context_length": 16, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "mobile.json").write_text(json.dumps({"model_cfg": config}))
    made = load_student(str(folder / "mobile.json"), seed=2)
    generator = torch.Generator().manual_seed(0)
    for module in made.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 1.5, generator=generator)
    return made


def run_onnx(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (output,) = session.get_outputs()
    return given.name, output.name, torch.from_numpy(session.run(None, {given.name: inputs.numpy()})[0])


def test_pictures_and_texts_of_any_number_embed_as_in_torch(student, tmp_path):
    exported = export_onnx(student, tmp_path)
    assert all(0 <= difference <= 1e-5 for difference in exported.differences.values())
    images = [tiny_image(k) for k in range(5)]
    pixels = torch.stack([student.image_transform(image) for image in images])
    name, output, found = run_onnx(tmp_path / "image.onnx", pixels)
    assert (name, output) == ("pixel_values", "image_embeds")
    torch.testing.assert_close(found, student.encode_images(images), rtol=0, atol=1e-5)
    texts = ["a red dog", "two birds on a house", "a man"]
    name, output, found = run_onnx(tmp_path / "text.onnx", student.tokenize(texts))
    assert (name, output) == ("input_ids", "text_embeds")
    torch.testing.assert_close(found, student.encode_texts(texts), rtol=0, atol=1e-5)
    described = json.loads((tmp_path / "export.json").read_text())
    assert described["embed_dim"] == student.embed_dim
    assert described["preprocess_cfg"]["size"] == [32, 32]
    assert (tmp_path / "tokenizer.json").exists()
    assert all(p.requires_grad for p in student.model.parameters())  # it was copied


def test_branches_are_fused_into_the_same_function(mobile, tmp_path):
    small, saved = fused(mobile.model)
    assert saved > 0
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            small.encode_image(pixels), mobile.model.eval().encode_image(pixels), rtol=1e-3, atol=1e-4
        )
    exported = export_onnx(mobile, tmp_path, reparameterize=True)
    assert exported.fused == saved
    convolutions = [export_nodes(export_onnx(mobile, tmp_path / "whole").folder), export_nodes(tmp_path)]
    assert convolutions[1] < convolutions[0]


def export_nodes(folder):
    import onnx

    graph = onnx.load(folder / "image.onnx").graph
    return sum(node.op_type == "Conv" for node in graph.node)


def test_what_cannot_be_exported_is_said(student, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="has no branches to fuse"):
        export_onnx(student, tmp_path, reparameterize=True)
    session = onnxruntime.InferenceSession

    class Other(session):
        def run(self, *arguments):
            return [super().run(*arguments)[0] + 0.01]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Other)
    with pytest.raises(ValueError, match=r"image\.onnx: onnxruntime's embeddings differ .* by 0\.01"):
        export_onnx(student, tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'exporting needs onnxscript; pip install "cliptd\[onnx\]"'):
        export_onnx(student, tmp_path)


def test_latencies_are_medians_without_the_first_round():
    calls = {"a": 0, "b": 0}
    found = latencies({name: lambda name=name: calls.update({name: calls[name] + 1}) for name in calls}, 3)
    assert calls == {"a": 4, "b": 4}
    assert set(found) == {"a", "b"}
    assert all(value > 0 for value in found.values())
