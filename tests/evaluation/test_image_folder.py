"""A folder of class folders: its images, the names of its classes, and the messages about errors in it."""

import json

import pytest
import torch

from cliptd.evaluation.embeddings import embed_images
from cliptd.evaluation.image_folder import ImageFolder
from tests.helpers.table_encoder import TableEncoder, picture, write_picture


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(["fire_truck/b.png", "fire_truck/a.PNG", "dog/c.png"]):
        write_picture(tmp_path / "set" / name, number)
    (tmp_path / "set" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "set" / ".cache").mkdir()
    return tmp_path / "set"


def test_images_are_sorted_by_class_and_name_and_opened_on_demand(folder):
    (folder / "dog" / "c.png").write_bytes(b"broken")
    found = ImageFolder(folder)
    assert found.classes == ["dog", "fire_truck"]
    assert found.class_names == ["dog", "fire truck"]
    assert found.ids == ["dog/c.png", "fire_truck/a.PNG", "fire_truck/b.png"]
    assert found.labels == [0, 1, 1]
    assert len(found) == 3
    assert [image().getpixel((0, 0))[0] for image in found.images[1:]] == [1, 0]
    with pytest.raises(ValueError, match=r"class 'dog': image .*dog/c\.png is corrupt"):
        found.images[0]()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.json", json.dumps({"fire_truck": "fire engine", "dog": "hound", "cat": "cat"})),
        ("classnames.txt", "\ufefffire_truck fire engine\n\ncat\tcat\ndog\thound\n"),
    ],
)
def test_a_file_names_the_classes(folder, file, text):
    (folder / file).write_text(text)
    assert ImageFolder(folder).class_names == ["hound", "fire engine"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "classes.json",
            '{"dog": "hound"}',
            r"classes\.json: has no name for the class folder 'fire_truck' \(1 such",
        ),
        ("classes.json", '["dog"]', r"classes\.json: expected one JSON object .*found a JSON list"),
        ("classes.json", '{"dog": 3}', r"classes\.json: expected .*found 3 for 'dog'"),
        ("classes.json", "dog", r"classes\.json: expected .*found no JSON: Expecting value"),
        (
            "classnames.txt",
            "dog hound\n\nfire_truck\n",
            r"classnames\.txt:3: found 'fire_truck', expected a class",
        ),
        (
            "classnames.txt",
            "dog\thound\nfire_truck\t\n",
            r"classnames\.txt:2: found 'fire_truck\\t', expected",
        ),
    ],
)
def test_a_wrong_file_of_names_is_refused(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder)


def test_two_files_of_names_are_refused(folder):
    for file in ("classes.json", "classnames.txt"):
        (folder / file).write_text("{}")
    with pytest.raises(ValueError, match=r"in classes\.json and in classnames\.txt; remove one"):
        ImageFolder(folder)


def test_a_folder_without_classes_and_a_class_without_images_are_refused(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder; expected one with a folder of images"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"dog: holds no class; expected a folder of images for each"):
        ImageFolder(folder / "dog")
    (folder / "dog" / "c.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"set/dog: the class holds no image \(\.jpg, .*fill it or remove"
    ):
        ImageFolder(folder)


def test_bad_images_stop_or_are_listed(folder):
    (folder / "dog" / "c.png").write_bytes(b"broken")
    found, model = ImageFolder(folder), TableEncoder(torch.eye(3), batch_size=1)
    with pytest.raises(ValueError, match=r"dog/c\.png is corrupt"):
        embed_images(model, found.images, found.ids)
    (folder / "fire_truck" / "b.png").unlink()
    embedded = embed_images(model, found.images, found.ids, on_bad_sample="skip")
    assert embedded.kept == [1]
    assert embedded.embeds.tolist() == [[0, 1, 0]]
    assert len(embedded.skipped) == 2
    assert "dog/c.png is corrupt" in embedded.skipped[0]
    assert "b.png is missing" in embedded.skipped[1]
    (folder / "fire_truck" / "a.PNG").unlink()
    with pytest.raises(
        ValueError, match=r"images: none of 3 images can be opened; the first: .*c\.png is corrupt"
    ):
        embed_images(model, found.images, found.ids, on_bad_sample="skip")
    with pytest.raises(ValueError, match="on_bad_sample is 'ignore'; choose 'raise' or 'skip'"):
        embed_images(model, found.images, found.ids, on_bad_sample="ignore")


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_every_image_is_opened_and_embedded_once_in_order(batch_size):
    opened = []

    def opener(number):
        return lambda: opened.append(number) or picture(number)

    model = TableEncoder(torch.eye(7), batch_size=batch_size)
    embedded = embed_images(model, [opener(number) for number in range(7)], "abcdefg")
    assert embedded.kept == list(range(7))
    assert embedded.embeds.tolist() == torch.eye(7).tolist()
    assert sorted(opened) == list(range(7))


def test_an_embedding_that_is_not_finite_names_the_image(folder):
    found, table = ImageFolder(folder), torch.eye(3)
    table[1, 1] = torch.nan
    with pytest.raises(
        ValueError, match=r"the model: the embedding of image 'fire_truck/a\.PNG' is not finite"
    ):
        embed_images(TableEncoder(table), found.images, found.ids)


def test_imagenets_wordnet_numbers_are_called_by_their_names(tmp_path):
    for number in ("n02123045", "n01440764", "n15075141"):
        write_picture(tmp_path / number / "a.png", 0)
    found = ImageFolder(tmp_path)
    assert found.class_names == ["tench", "tabby cat", "toilet paper"]
    (tmp_path / "n00000001").mkdir()
    with pytest.raises(
        ValueError, match=r"class folder n00000001 \(1 such\).* name the classes in classes\.json"
    ):
        ImageFolder(tmp_path)


def test_folders_0_to_999_are_imagenets_classes_in_its_order(tmp_path):
    for number in range(1000):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "a.jpg").touch()
    found = ImageFolder(tmp_path)
    assert (found.classes[0], found.classes[999]) == ("n01440764", "n15075141")
    assert (found.class_names[0], found.class_names[2], found.class_names[999]) == (
        "tench",
        "great white shark",
        "toilet paper",
    )
    assert found.labels[2] == 2
    assert found.ids[2] == "2/a.jpg"
    assert found.images[2].path == tmp_path / "2" / "a.jpg"
    names = {str(number): f"thing {number}" for number in range(1000)}
    (tmp_path / "classes.json").write_text(json.dumps(names))
    own = ImageFolder(tmp_path)
    assert own.classes[2] == "10"
    assert own.class_names[2] == "thing 10"
