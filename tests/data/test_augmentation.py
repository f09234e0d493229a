"""Drawn augmentations: replayed to the pixel, encoded without loss, like torchvision's operations."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, RandAugment, RandomResizedCrop, autoaugment
from torchvision.transforms import functional as F

from cliptd.data.augmentation import OPERATIONS, SIGNED, Augmentation, AugmentationPolicy, replay
from tests.helpers.commands import REPOSITORY


def noise_image(seed: int = 0, height: int = 90, width: int = 130) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(("name", "sign"), [*((n, 1) for n in OPERATIONS), *((n, -1) for n in SIGNED)])
def test_every_operation_is_torchvisions_to_the_pixel(name, sign):
    magnitudes, signed = RandAugment()._augmentation_space(31, (64, 64))[name]
    assert signed == (name in SIGNED)
    own = AugmentationPolicy(size=64)._strengths(name)
    for number in (0, 3, 9, 30):
        magnitude = float(magnitudes[number]) if magnitudes.ndim else 0.0
        assert own[number] == magnitude
        found = replay(noise_image(), Augmentation((5, 7, 60, 80), ((name, sign * magnitude),)), 64)
        cropped = F.resized_crop(noise_image(), 5, 7, 60, 80, [64, 64], InterpolationMode.BICUBIC)
        expected = autoaugment._apply_op(cropped, name, sign * magnitude, InterpolationMode.NEAREST, None)
        assert np.array_equal(found, expected)


def test_what_is_drawn_depends_on_the_seed_alone_and_leaves_the_generators_alone():
    policy = AugmentationPolicy(size=48)
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    drawn = [policy.draw((90, 130), seed) for seed in range(200)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert drawn == [policy.draw((90, 130), seed) for seed in range(200)]
    assert len(set(drawn)) == 200
    assert {name for augmentation in drawn for name, _ in augmentation.operations} == set(OPERATIONS)
    areas = [a.crop[2] * a.crop[3] / (90 * 130) for a in drawn]
    assert 0.07 < min(areas) < 0.2 < 0.8 < max(areas) <= 1
    signs = [m > 0 for a in drawn for name, m in a.operations if name in ("Rotate", "ShearX", "Color")]
    assert 0.3 < np.mean(signs) < 0.7
    for augmentation in drawn:
        assert np.asarray(replay(noise_image(), augmentation, 48)).shape == (48, 48, 3)


@pytest.mark.parametrize("size", [(90, 130), (64, 64), (20, 300), (300, 20), (1, 1)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.0)])
def test_crops_are_those_of_torchvision_from_the_same_seed(size, scale):
    policy = AugmentationPolicy(size=48, scale=scale, operations=0)
    for seed in range(50):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            blank = Image.new("L", size[::-1])
            expected = RandomResizedCrop.get_params(blank, list(policy.scale), list(policy.ratio))
        assert policy.draw(size, seed).crop == tuple(expected)


def test_what_is_drawn_does_not_depend_on_what_other_threads_draw():
    """A captioner draws too, while images are read ahead."""
    policy, over = AugmentationPolicy(size=48), threading.Event()
    alone = [policy.draw((90, 130), seed) for seed in range(300)]

    def disturb():
        while not over.is_set():
            torch.manual_seed(0)
            torch.rand(3)

    with torch.random.fork_rng():
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            beside = [policy.draw((90, 130), seed) for seed in range(300)]
        finally:
            over.set()
            thread.join()
    assert beside == alone


def test_parameters_survive_json_and_float32():
    for seed in range(50):
        drawn = AugmentationPolicy().draw((90, 130), seed)
        assert Augmentation.decode(json.loads(json.dumps(drawn.encode()))) == drawn
        assert all(float(np.float32(magnitude)) == magnitude for _, magnitude in drawn.operations)
    assert Augmentation((1, 2, 3, 4), (("Rotate", -9.0),)).encode() == [[1, 2, 3, 4], [[5, -9.0]]]


def test_another_process_replays_the_same_pixels():
    drawn = [AugmentationPolicy(size=40).draw((90, 130), seed) for seed in range(20)]
    own = [int(np.asarray(replay(noise_image(), a, 40), dtype=np.int64).sum()) for a in drawn]
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np\n"
        "from tests.data.test_augmentation import noise_image, replay, Augmentation\n"
        "found = [replay(noise_image(), Augmentation.decode(a), 40) for a in json.load(sys.stdin)]\n"
        "print(json.dumps([int(np.asarray(f, dtype=np.int64).sum()) for f in found]))\n"
    )
    command = [sys.executable, "-c", program, str(REPOSITORY)]
    text = json.dumps([a.encode() for a in drawn])
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == own


def test_at_another_size_a_translation_is_as_large_a_part_of_the_crop():
    moved = Augmentation((0, 0, 90, 90), (("TranslateX", 16.0),))
    large = np.asarray(replay(noise_image(), moved, 128, drawn_at=64))
    assert not large[:, :32].any()
    assert large[:, 32].any()


@pytest.mark.parametrize("crop", [(60, 0, 40, 10), (0, 100, 10, 40), (-1, 0, 10, 10), (0, 0, 0, 5)])
def test_a_crop_of_another_image_is_refused(crop):
    with pytest.raises(
        ValueError, match="is not inside the image, which has 90 × 130 pixels; it was drawn for"
    ):
        replay(noise_image(), Augmentation(crop, ()), 32)


@pytest.mark.parametrize(
    "encoded", [[], [[1, 2, 3]], [[1, 2, 3, 4], [[14, 0.0]]], [[1, 2, 3, 4], [[-1, 0.0]]], None]
)
def test_what_encodes_no_augmentation_is_named(encoded):
    with pytest.raises(ValueError, match="operations from 0 to 13"):
        Augmentation.decode(encoded)


def test_a_policy_out_of_range_is_refused():
    with pytest.raises(ValueError, match="magnitude 31 of 31"):
        AugmentationPolicy(magnitude=31)
