"""Region features against the backbone called by hand, and the cache."""

import os

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from tasks.batches.example import all_boxes
from tasks.batches.region_features import RegionFeatures
from tasks.vcr.data import VcrDataset
from tests.helpers.tiny_vcr import tiny_backbone_folder, tiny_vcr

BOXES = torch.tensor([[0.0, 0, 64, 48], [10, 8, 42, 40], [40, 10, 60, 30]])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone_folder(tmp_path_factory.mktemp("backbone"))


@pytest.fixture(scope="module")
def image():
    # smooth, so that resizing twice and once agree closely
    x, y = np.meshgrid(np.linspace(0, 200, 64), np.linspace(20, 220, 48))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def pixels_of(image):
    return (torch.tensor(np.asarray(image)).permute(2, 0, 1) / 255 - 0.5) / 0.5


def test_crop_features_are_the_backbones_pooled_features_of_each_crop(backbone, image):
    regions = RegionFeatures(backbone, geometry=False)
    features = regions.features(image, BOXES)
    assert features.shape == (3, regions.dim) == (3, 16)
    model = timm.create_model(backbone, pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        exact = model(
            pixels_of(image.crop((10, 8, 42, 40)))[None]
        )  # 32 x 32, the backbone's size: no resizing
    torch.testing.assert_close(features[1:2], exact, atol=1e-5, rtol=1e-4)
    assert not features.requires_grad


def test_roi_align_averages_the_feature_map_inside_the_box(backbone, image):
    regions = RegionFeatures(backbone, mode="roi_align", crop_size=64, geometry=False)
    square = image.resize((64, 64))
    features = regions.features(square, torch.tensor([[0.0, 0, 64, 64], [32, 0, 64, 32]]))
    model = timm.create_model(backbone, pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        feature_map = model.forward_features(pixels_of(square)[None])[0]  # (16, 2, 2)
    assert feature_map.shape[1:] == (2, 2)
    # The upper right quarter is one cell; samples near its border mix with its neighbours: it is the closest.
    distances = (features[1] - feature_map.flatten(1).T).norm(dim=1)
    assert distances.argmin() == 1
    assert features.shape == (2, 16)


def test_geometry_is_appended(backbone, image):
    features = RegionFeatures(backbone).features(image, BOXES)
    assert features.shape == (3, 22)
    torch.testing.assert_close(features[0, 16:], torch.tensor([0.0, 0, 1, 1, 1, 1]))
    expected = [10 / 64, 8 / 48, 42 / 64, 40 / 48, 32 * 32 / (64 * 48), 0]
    torch.testing.assert_close(features[1, 16:], torch.tensor(expected))


def test_batches_do_not_change_features(backbone, image):
    whole, by_one = (RegionFeatures(backbone, batch_size=n) for n in (64, 1))
    torch.testing.assert_close(whole.features(image, BOXES), by_one.features(image, BOXES))


def forbidden():
    raise AssertionError("the image was opened although its features are cached")


def test_cache_answers_without_the_image_and_across_processes(backbone, image, tmp_path):
    first = RegionFeatures(backbone, cache=tmp_path)
    computed = first.lookup(["a", "b"], [lambda: image, lambda: image], [BOXES, BOXES[:1]])
    assert not list(tmp_path.rglob("*.partial"))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    for again in (first, RegionFeatures(backbone, cache=tmp_path)):  # from memory, from disk
        cached = again.lookup(["b", "a"], [forbidden, forbidden], [BOXES[:1], BOXES])
        assert torch.equal(cached[0], computed[1])
        assert torch.equal(cached[1], computed[0])


def test_a_cached_file_may_be_read_by_whom_the_umask_lets(backbone, image, tmp_path):
    before = os.umask(0o022)
    try:
        RegionFeatures(backbone, cache=tmp_path).lookup(["a"], [lambda: image], [BOXES])
    finally:
        os.umask(before)
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.stat().st_mode & 0o777 == 0o644


def test_cache_knows_backbone_settings_key_and_boxes(backbone, image, tmp_path):
    RegionFeatures(backbone, cache=tmp_path).lookup(["a"], [lambda: image], [BOXES])
    other_weights = tiny_backbone_folder(tmp_path / "other", seed=1)
    other = [
        (RegionFeatures(other_weights, cache=tmp_path), "a", BOXES),
        (RegionFeatures(backbone, cache=tmp_path, geometry=False), "a", BOXES),
        (RegionFeatures(backbone, cache=tmp_path, crop_size=40), "a", BOXES),
        (RegionFeatures(backbone, cache=tmp_path, mode="roi_align"), "a", BOXES),
        (RegionFeatures(backbone, cache=tmp_path), "b", BOXES),
        (RegionFeatures(backbone, cache=tmp_path), "a", BOXES + 1),
    ]
    for regions, key, boxes in other:
        with pytest.raises(AssertionError, match="was opened"):
            regions.lookup([key], [forbidden], [boxes])


def test_a_broken_cache_file_is_named(backbone, image, tmp_path):
    RegionFeatures(backbone, cache=tmp_path).lookup(["a"], [lambda: image], [BOXES])
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=rf"region cache .*{path.name} is broken .*delete this file"):
        RegionFeatures(backbone, cache=tmp_path).lookup(["a"], [forbidden], [BOXES])


def test_precompute_fills_the_cache_for_every_image(backbone, tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path / "vcr", items=6), "val")
    assert RegionFeatures(backbone, cache=tmp_path / "cache", batch_size=2).precompute(dataset) == 3
    regions = RegionFeatures(backbone, cache=tmp_path / "cache")
    for example in dataset:
        assert regions.lookup([example.item.img_fn], [forbidden], [all_boxes(example)])[0].shape == (4, 22)


def test_memory_is_bounded(backbone, image):
    regions = RegionFeatures(backbone, memory=1)
    regions.lookup(["a", "b"], [lambda: image] * 2, [BOXES] * 2)
    with pytest.raises(AssertionError, match="was opened"):
        regions.lookup(["a"], [forbidden], [BOXES])


def test_bad_settings_and_boxes_are_named(backbone, image, tmp_path):
    with pytest.raises(ValueError, match="mode is 'mask'; choose 'crop' or 'roi_align'"):
        RegionFeatures(backbone, mode="mask")
    with pytest.raises(FileNotFoundError, match=r"nowhere/config\.json is missing"):
        RegionFeatures(f"local-dir:{tmp_path}/nowhere")
    with pytest.raises(
        FileNotFoundError, match=r"weights of backbone 'resnet18' are not on this machine.*local-dir"
    ):
        RegionFeatures("resnet18")  # no network in tests
    with pytest.raises(ValueError, match="backbone 'no_such_model' could not be created"):
        RegionFeatures("no_such_model")
    with pytest.raises(
        ValueError, match=r"box \[0.0, 0.0, 70.0, 10.0\] is outside its image of 64 x 48 pixels"
    ):
        RegionFeatures(backbone).features(image, torch.tensor([[0, 0, 70, 10]]))


def test_roi_align_wants_a_feature_map(image, tmp_path):
    import json

    from safetensors.torch import save_file

    arguments = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **arguments)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    pretrained = {
        "input_size": [3, 32, 32],
        "num_classes": 0,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "model_args": arguments}
    (tmp_path / "config.json").write_text(json.dumps({**config, "pretrained_cfg": pretrained}))
    assert RegionFeatures(f"local-dir:{tmp_path}").features(image, BOXES).shape == (3, 22)
    with pytest.raises(ValueError, match=r"features of shape \(1, 5, 16\), and roi_align needs a map"):
        RegionFeatures(f"local-dir:{tmp_path}", mode="roi_align").features(image, BOXES)
