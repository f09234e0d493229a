"""Teachers: embeddings against the bare libraries, freezing, fingerprints, and every way a load can fail."""

import io
import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoTokenizer, BertConfig, BertModel, CLIPModel, SiglipModel

from cliptd.embedding.student import load_student
from cliptd.teachers import ImageError, Teacher, TeacherEnsemble, load_teacher
from cliptd.teachers import from_open_clip as open_clip_teacher
from cliptd.teachers.from_open_clip import _settings_of_tags
from cliptd.teachers.similarity import Similarity
from tests.helpers.tiny_clip import (
    CONTEXT_LENGTH,
    IMAGE_SIZE,
    tiny_hf_folder,
    tiny_image,
    tiny_open_clip_folder,
)

TEXTS = ["a photo of a dog", "why is the man standing?", "zebra"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    return {
        "open_clip": str(tiny_open_clip_folder(root / "open_clip")),
        "clip": "hf:" + str(tiny_hf_folder(root / "clip", "clip")),
        "siglip": "hf:" + str(tiny_hf_folder(root / "siglip", "siglip", embed_dim=24)),
    }


@pytest.fixture(scope="module")
def teachers(folders):
    return {kind: load_teacher(name, batch_size=2) for kind, name in folders.items()}


def by_hand_pixels(image, mean, std):
    """Squash with PIL's bicubic filter and normalise, in float64."""
    small = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(small, np.float64) / 255 - mean) / std
    return torch.from_numpy(pixels.transpose(2, 0, 1)).float()


def test_open_clip_embeddings_are_those_of_the_bare_model(folders, teachers):
    model = open_clip.create_model(f"local-dir:{folders['open_clip']}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folders['open_clip']}")
    images = [tiny_image(i) for i in range(3)]
    with torch.no_grad():
        pixels = torch.stack([by_hand_pixels(image, 0.5, 0.25) for image in images])
        image_embeds = model.encode_image(pixels)
        text_embeds = model.encode_text(tokenizer(TEXTS))
    teacher = teachers["open_clip"]
    expected = image_embeds / image_embeds.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(teacher.encode_images(images), expected, atol=1e-5, rtol=0)
    expected = text_embeds / text_embeds.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(teacher.encode_texts(TEXTS), expected, atol=1e-6, rtol=0)
    assert teacher.embed_dim == 16
    assert teacher.logit_scale == pytest.approx(1 / 0.07)
    assert teacher.logit_bias is None
    assert not teacher.is_sigmoid


@pytest.mark.parametrize(("kind", "model_class"), [("clip", CLIPModel), ("siglip", SiglipModel)])
def test_transformers_embeddings_and_logits_are_those_of_the_bare_model(folders, teachers, kind, model_class):
    folder, teacher = folders[kind].removeprefix("hf:"), teachers[kind]
    model = model_class.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(TEXTS, padding="max_length", max_length=CONTEXT_LENGTH, return_tensors="pt")
    tokens = {"input_ids": tokens["input_ids"]} | (
        {"attention_mask": tokens["attention_mask"]} if kind == "clip" else {}
    )
    images = [tiny_image(i, size=(IMAGE_SIZE, IMAGE_SIZE)) for i in range(2)]
    pixels = torch.stack([teacher.image_transform(image) for image in images])
    with torch.no_grad():
        expected = model(pixel_values=pixels, **tokens).logits_per_image
    found = teacher.match_logits(teacher.encode_images(images), teacher.encode_texts(TEXTS))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_clip_probability_is_a_softmax_over_candidates_and_siglip_a_sigmoid(teachers):
    image, texts = torch.tensor([[1.0, 0.0]]), torch.tensor([[[0.6, 0.8], [0.0, 2.0]]])
    clip, siglip = Similarity(), Similarity()
    clip.logit_scale, clip.logit_bias = 10.0, None
    siglip.logit_scale, siglip.logit_bias = 10.0, -4.0
    torch.testing.assert_close(clip.match_logits(image, texts), torch.tensor([[6.0, 0.0]]))
    e = np.exp(6.0)
    torch.testing.assert_close(
        clip.match_probability(image, texts), torch.tensor([[e / (e + 1), 1 / (e + 1)]], dtype=torch.float32)
    )
    expected = torch.tensor([[1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(4.0))]], dtype=torch.float32)
    torch.testing.assert_close(siglip.match_probability(image, texts[0]), expected)
    assert teachers["siglip"].is_sigmoid
    assert teachers["siglip"].logit_scale == pytest.approx(np.exp(2.3), rel=1e-5)
    assert teachers["siglip"].logit_bias == pytest.approx(-4.0)


def test_images_of_any_mode_and_raw_tensors(teachers):
    teacher = teachers["open_clip"]
    image = tiny_image(5)
    expected = teacher.encode_images([image])
    raw = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    transformed = teacher.image_transform(image)
    for same in (image.convert("RGBA"), raw, transformed):
        torch.testing.assert_close(teacher.encode_images([same]), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(teacher.encode_images(raw[None]), expected, atol=1e-6, rtol=0)
    grey = [image.convert(mode) for mode in ("L", "P", "LA", "1", "CMYK", "I;16")]
    assert teacher.encode_images(grey).shape == (6, 16)
    assert teacher.encode_images([]).shape == (0, 16)
    assert teacher.encode_texts([]).shape == (0, 16)


def test_batches_do_not_change_embeddings(folders):
    one, many = (load_teacher(folders["open_clip"], batch_size=size) for size in (1, 100))
    images = [tiny_image(i) for i in range(5)]
    torch.testing.assert_close(one.encode_images(images), many.encode_images(images), atol=1e-6, rtol=0)
    torch.testing.assert_close(one.encode_texts(TEXTS), many.encode_texts(TEXTS), atol=1e-6, rtol=0)


def test_frozen_eval_and_outside_autocast(teachers):
    teacher = teachers["open_clip"]
    parent = nn.ModuleList([teacher, nn.Dropout()])
    parent.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    plain = teacher.encode_texts(TEXTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = teacher.encode_texts(TEXTS)
    assert torch.equal(plain, inside)
    assert inside.dtype == torch.float32
    with torch.inference_mode():
        embeds = teacher.encode_texts(TEXTS)
    assert not embeds.is_inference()
    assert not embeds.requires_grad
    nn.Linear(16, 1)(embeds).sum().backward()  # an inference tensor could not be saved for this


def test_low_precision_gives_close_float32_embeddings_and_another_fingerprint(folders, teachers):
    teacher = load_teacher(folders["open_clip"], precision="bf16")
    embeds = teacher.encode_texts(TEXTS)
    assert embeds.dtype == torch.float32
    torch.testing.assert_close(embeds, teachers["open_clip"].encode_texts(TEXTS), atol=0.05, rtol=0)
    assert teacher.fingerprint != teachers["open_clip"].fingerprint
    siglip = load_teacher(folders["siglip"], precision="bf16")
    expected = teachers["siglip"].encode_images([tiny_image()])
    torch.testing.assert_close(siglip.encode_images([tiny_image()]), expected, atol=0.05, rtol=0)


def copy_of(folders, tmp_path, name="copy"):
    return shutil.copytree(folders["open_clip"], tmp_path / name)


def test_fingerprint_follows_weights_transform_and_tokenizer_and_nothing_else(folders, teachers, tmp_path):
    original = teachers["open_clip"].fingerprint
    assert original.startswith("sha256:")
    assert len(original) == len("sha256:") + 16
    assert load_teacher(str(copy_of(folders, tmp_path))).fingerprint == original

    weights = copy_of(folders, tmp_path, "weights")
    tensors = load_file(weights / "open_clip_model.safetensors")
    tensors["ln_final.bias"][0] += 1e-6
    save_file(tensors, weights / "open_clip_model.safetensors")

    transform = copy_of(folders, tmp_path, "transform")
    config = json.loads((transform / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.501]
    (transform / "open_clip_config.json").write_text(json.dumps(config))

    tokenizer = copy_of(folders, tmp_path, "tokenizer")
    vocabulary = json.loads((tokenizer / "tokenizer.json").read_text())
    words = vocabulary["model"]["vocab"]
    words["tree"], words["house"] = words["house"], words["tree"]
    (tokenizer / "tokenizer.json").write_text(json.dumps(vocabulary))

    changed = {load_teacher(str(folder)).fingerprint for folder in (weights, transform, tokenizer)}
    assert len(changed | {original}) == 4
    assert len({teacher.fingerprint for teacher in teachers.values()}) == 3


def test_ensemble_concatenates_members_and_averages_cosines(folders, teachers):
    ensemble = load_teacher(f"{folders['open_clip']},{folders['siglip']}", batch_size=2)
    assert isinstance(ensemble, TeacherEnsemble)
    assert ensemble.embed_dim == 40
    assert [member.fingerprint for member in ensemble.members] == [
        teachers[name].fingerprint for name in ("open_clip", "siglip")
    ]
    assert all(member.members == [member] for member in ensemble.members)
    assert {key.split(".")[1] for key in ensemble.state_dict() if key.startswith("members.")} == {"0", "1"}
    images = [tiny_image(i) for i in range(3)]
    members = [teachers["open_clip"], teachers["siglip"]]
    image_embeds, text_embeds = ensemble.encode_images(images), ensemble.encode_texts(TEXTS)
    torch.testing.assert_close(image_embeds.norm(dim=-1), torch.ones(3))
    cosines = [member.encode_images(images) @ member.encode_texts(TEXTS).T for member in members]
    torch.testing.assert_close(image_embeds @ text_embeds.T, sum(cosines) / 2)
    for part, member in zip(ensemble.split(text_embeds), members, strict=True):
        torch.testing.assert_close(part, member.encode_texts(TEXTS))
    assert ensemble.logit_scale == pytest.approx((members[0].logit_scale + members[1].logit_scale) / 2)
    assert ensemble.logit_bias is None
    assert ensemble.fingerprint not in {member.fingerprint for member in members}
    other_order = load_teacher(f"{folders['siglip']},{folders['open_clip']}")
    assert other_order.fingerprint != ensemble.fingerprint
    with pytest.raises(ImageError, match=r"image at position 0 .*one teacher's transform"):
        ensemble.encode_images([members[0].image_transform(images[0])])
    with pytest.raises(ValueError, match="at least one teacher"):
        TeacherEnsemble([])


def test_broken_images_are_named(teachers, tmp_path):
    teacher = teachers["open_clip"]
    buffer = io.BytesIO()
    tiny_image(0, size=(200, 200)).save(buffer, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(ImageError, match=r"image .*cut\.jpg cannot be read: .*truncated"):
        teacher.encode_images([tiny_image(), Image.open(path)])
    with pytest.raises(ImageError, match="image scene-7 cannot be read"):
        teacher.encode_images([Image.open(path)], names=["scene-7"])
    with pytest.raises(ImageError, match=r"image at position 1 .*found a str"):
        teacher.encode_images([tiny_image(), "dog.jpg"])
    with pytest.raises(ImageError, match=r"shape \(3, 7, 7\), expected image_transform's \(3, 32, 32\)"):
        teacher.encode_images([torch.zeros(3, 7, 7)])
    with pytest.raises(ImageError, match=r"found a torch\.int64 tensor"):
        teacher.encode_images(torch.zeros(1, 3, 7, 7, dtype=torch.int64))
    with pytest.raises(TypeError, match="list of texts, found the single text 'dog'"):
        teacher.encode_texts("dog")


def test_unknown_names_tags_and_options_name_the_choices():
    with pytest.raises(ValueError, match=r"no model named 'ViT-L14'; nearest: ViT-L-14"):
        load_teacher("ViT-L14", "openai")
    with pytest.raises(ValueError, match=r"pretrained=None is neither .*its tags: openai, laion400m_e31"):
        load_teacher("ViT-L-14")
    with pytest.raises(ValueError, match=r"pretrained='openia' is neither .*its tags: openai"):
        load_teacher("ViT-L-14", "openia")
    with pytest.raises(ValueError, match="precision is 'int8'; expected one of fp32, fp16, bf16"):
        load_teacher("ViT-L-14", "openai", precision="int8")
    with pytest.raises(ValueError, match=r"names 3 checkpoints for the 2 teachers"):
        load_teacher("ViT-L-14,ViT-B-32", "openai,openai,openai")
    with pytest.raises(ValueError, match="pretrained='openai' has no meaning for 'hf:some/model'"):
        load_teacher("hf:some/model", "openai")


def test_a_checkpoint_missing_offline_says_how_to_get_it(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"`hf download timm/vit_base_patch32_clip_224.openai`.*folder"
    ):
        load_teacher("ViT-B-32", "openai")
    with pytest.raises(FileNotFoundError, match=r"`hf download some/clip`"):
        load_teacher("hf:some/clip")
    for name in (f"hf:{tmp_path}/none", f"{tmp_path}/none"):
        with pytest.raises(FileNotFoundError, match=r"teacher folder .*/none does not exist"):
            load_teacher(name)


def test_a_model_on_the_hub_is_loaded_by_its_id(folders, monkeypatch):
    asked = []

    def download(repository, allow_patterns):
        asked.append((repository, open_clip_teacher.WEIGHTS in allow_patterns))
        return folders["open_clip"]

    with pytest.raises(
        FileNotFoundError, match=r"hf-hub:timm/no-such-thing is not .* run `hf download timm/no-such"
    ):
        load_teacher("hf-hub:timm/no-such-thing")
    monkeypatch.setattr(open_clip_teacher, "snapshot_download", download)
    teacher = load_teacher("hf-hub:timm/ViT-tiny")
    assert asked == [("timm/ViT-tiny", True)]
    assert teacher.name == "hf-hub:timm/ViT-tiny"
    assert teacher.fingerprint == load_teacher(folders["open_clip"]).fingerprint
    student = load_student("hf-hub:timm/ViT-tiny")
    assert not student.fresh
    assert all(parameter.requires_grad for parameter in student.model.parameters())
    with pytest.raises(ValueError, match="has no meaning for 'hf-hub:timm/ViT-tiny'"):
        load_teacher("hf-hub:timm/ViT-tiny", "openai")


def test_no_tensor_stays_random_in_an_open_clip_folder(folders, tmp_path):
    folder = copy_of(folders, tmp_path)
    weights = folder / "open_clip_model.safetensors"
    tensors = load_file(weights)
    config = json.loads((folder / "open_clip_config.json").read_text())

    weights.rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(
        FileNotFoundError, match=r"no open_clip_model\.safetensors, only .*save the weights as"
    ):
        load_teacher(str(folder))
    (folder / "open_clip_pytorch_model.bin").unlink()

    save_file({key: value for key, value in tensors.items() if key != "ln_final.weight"}, weights)
    with pytest.raises(ValueError, match=r"cannot be loaded by open_clip: .*ln_final\.weight"):
        load_teacher(str(folder))

    save_file(tensors, weights)
    config["model_cfg"]["init_logit_bias"] = -10
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"lacks tensors .*logit_bias \(found None, expected \(\)\)"):
        load_teacher(str(folder))

    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded by open_clip"):
        load_teacher(str(folder))

    (folder / "open_clip_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no open_clip_config\.json"):
        load_teacher(str(folder))


def test_no_tensor_stays_random_in_a_transformers_folder(folders, tmp_path):
    folder = shutil.copytree(folders["clip"].removeprefix("hf:"), tmp_path / "clip")
    with pytest.raises(FileNotFoundError, match=f"write 'hf:{folder}'"):
        load_teacher(str(folder))
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lack tensors of CLIPModel.*text_projection\.weight.*would be random"
    ):
        load_teacher(f"hf:{folder}")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be loaded by transformers"):
        load_teacher(f"hf:{folder}")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=200, **size)).save_pretrained(folder)
    with pytest.raises(ValueError, match="BertModel, which has no get_image_features"):
        load_teacher(f"hf:{folder}")


def test_a_tag_trained_with_quick_gelu_gets_it(monkeypatch, tmp_path):
    """open_clip only warns where its config for ViT-L-14 lacks the QuickGELU that OpenAI's weights need."""
    asked = {}

    def create_model(name, **options):
        asked.update(options)
        raise RuntimeError("stop here")

    monkeypatch.setattr(open_clip, "create_model", create_model)
    for tag, expected in (("openai", True), ("laion2b_s32b_b82k", False)):
        with pytest.raises(FileNotFoundError):
            load_teacher("ViT-L-14", tag)
        assert asked["force_quick_gelu"] is expected
        assert asked["require_pretrained"] is True


def test_a_checkpoint_file_loads_by_name_and_a_wrong_one_is_refused(folders, tmp_path, monkeypatch):
    config = json.loads((tmp_path / copy_of(folders, tmp_path) / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"].pop("hf_tokenizer_name")
    config["model_cfg"]["text_cfg"] |= {"vocab_size": 49408, "context_length": 16}
    (tmp_path / "tiny-by-name.json").write_text(json.dumps(config["model_cfg"]))
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [*open_clip.factory._MODEL_CONFIG_PATHS])
    open_clip.add_model_config(tmp_path / "tiny-by-name.json")
    try:
        model = open_clip.create_model("tiny-by-name")
        save_file(model.state_dict(), tmp_path / "tiny.safetensors")
        teacher = load_teacher("tiny-by-name", str(tmp_path / "tiny.safetensors"))
        tokens = open_clip.get_tokenizer("tiny-by-name")(TEXTS)
        expected = model.eval().encode_text(tokens, normalize=True).detach()
        torch.testing.assert_close(teacher.encode_texts(TEXTS), expected)
        assert isinstance(teacher, Teacher)
        assert teacher.fingerprint.startswith("sha256:")
        wrong = folders["open_clip"] + "/open_clip_model.safetensors"
        with pytest.raises(ValueError, match="does not fit tiny-by-name"):
            load_teacher("tiny-by-name", wrong)
    finally:
        open_clip.factory._MODEL_CONFIGS.pop("tiny-by-name")


def test_a_checkpoint_file_of_a_name_whose_tags_need_more_than_weights_is_warned_of():
    said = _settings_of_tags("ViT-L-14")
    assert "openai (" in said
    assert "quick_gelu" in said
    assert "webli (" in _settings_of_tags("ViT-B-16-SigLIP")
    assert _settings_of_tags("coca_base") == ""
