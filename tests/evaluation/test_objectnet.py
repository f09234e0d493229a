"""ObjectNet: classes that ImageNet has too, several of its classes for one, frames cut off; scores by hand."""

import json

import pytest
import torch
from PIL import Image

from cliptd.evaluation.image_folder import ImageFolder
from cliptd.evaluation.objectnet import ObjectNet, labelled_images
from cliptd.evaluation.suite import evaluate_suite
from cliptd.evaluation.suite_file import read_suite
from cliptd.evaluation.zero_shot import zero_shot
from tests.helpers.table_encoder import TableEncoder, picture, write_picture

NUMBERS = {
    "barber chair": "n02791124",
    "folding chair": "n03376595",
    "rocking chair": "n04099969",
    "banana": "n07753592",
}
LABELS = {"chair": "Chair", "banana": "Banana", "air_freshener": "Air freshener"}
OF_IMAGENET = {"Chair": "barber chair; folding chair; rocking chair, rocker", "Banana": "banana"}


def framed(path, number):
    """An image in a red frame of two pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (6, 6), (255, 0, 0))
    image.paste(picture(number), (2, 2))
    image.save(path)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "objectnet-1.0"
    for name, numbers in {"chair": [0, 2, 3], "banana": [3], "air_freshener": [1]}.items():
        for number in numbers:
            framed(root / "images" / name / f"{number}.png", number)
    (root / "mappings").mkdir()
    (root / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(LABELS))
    (root / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps(OF_IMAGENET))
    return root


@pytest.fixture
def model():
    """A model for which images 0 to 3 show the four classes of ImageNet."""
    eye = torch.eye(4)
    texts = {f"a {name}": eye[k] for k, name in enumerate(NUMBERS)} | {"a chair": eye[:3].mean(dim=0)}
    return TableEncoder(eye, texts, batch_size=30)


def test_classes_of_both_are_read_without_their_frames(folder, model):
    dataset = labelled_images(folder)
    assert isinstance(dataset, ObjectNet)
    assert dataset.classes == dataset.class_names == ["banana", "chair"]
    assert dataset.counterparts == [[NUMBERS["banana"]], [n for k, n in NUMBERS.items() if "chair" in k]]
    assert dataset.ids == ["banana/3.png", "chair/0.png", "chair/2.png", "chair/3.png"]
    assert dataset.labels == [0, 1, 1, 1]
    assert [image().size for image in dataset.images] == [(2, 2)] * 4
    assert zero_shot(model, dataset, ["a {}"])["top1"] == 75  # by its own names
    assert type(labelled_images(folder / "images")) is ImageFolder


def test_whoever_finds_one_of_several_counterparts_is_right(folder, model, tmp_path):
    write_picture(tmp_path / "val" / NUMBERS["folding chair"] / "a.png", 0)  # looks like a barber chair
    for number, name in enumerate(NUMBERS.values()):
        write_picture(tmp_path / "val" / name / "b.png", number)
        for part in ("train", "val", "test"):
            write_picture(tmp_path / "probe" / part / name / "c.png", number)
    (tmp_path / "sets.yaml").write_text(
        "- {name: imagenet, images: val, linear_probe: probe, templates: templates.txt}\n"
        "- {name: objectnet, images: objectnet-1.0, shifted_from: imagenet}\n"
        "- {name: by class, images: objectnet-1.0, shifted_from: imagenet, metric: mean_per_class}\n"
    )
    (tmp_path / "templates.txt").write_text("a {}\n")
    base, shifted, by_class = evaluate_suite(model, read_suite(tmp_path / "sets.yaml"))
    assert base["zero_shot"] == 80
    assert base["linear_probe"] == 100
    # Of three chairs one is called a banana. Of ImageNet's pictures all are right: a barber chair is a chair, too.
    assert shifted["images"] == 4
    assert (shifted["zero_shot"], shifted["zero_shot_drop"]) == (75, 25)
    assert (shifted["linear_probe"], shifted["linear_probe_drop"]) == (75, 25)
    assert by_class["zero_shot"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    assert by_class["zero_shot_drop"] == pytest.approx(100 - 100 * (2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("labels", "of_imagenet", "message"),
    [
        ({"chair": "Chair"}, OF_IMAGENET, r"has no label for the class folder 'air_freshener' \(2 such\)"),
        (LABELS, {"Chair": "chaise"}, "'Chair' is 'chaise', which is no class of ImageNet"),
        (LABELS, {"Lemon": "lemon"}, "none of its class folders is in"),
    ],
)
def test_what_is_wrong_with_the_mappings_is_named(folder, labels, of_imagenet, message):
    (folder / "mappings" / "folder_to_objectnet_label.json").write_text(json.dumps(labels))
    (folder / "mappings" / "objectnet_to_imagenet_1k.json").write_text(json.dumps(of_imagenet))
    with pytest.raises(ValueError, match=message):
        ObjectNet(folder)


def test_a_base_that_lacks_a_counterpart_is_refused(folder, tmp_path):
    write_picture(tmp_path / "val" / NUMBERS["banana"] / "b.png", 3)
    (tmp_path / "sets.yaml").write_text(
        "- {name: imagenet, images: val}\n- {name: objectnet, images: objectnet-1.0, shifted_from: imagenet}\n"
    )
    with pytest.raises(
        ValueError, match=r"objectnet has the class 'n02791124' \(3 such\), which imagenet lacks"
    ):
        read_suite(tmp_path / "sets.yaml")
