"""Boxes that a detector proposed or a grid gives."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from cliptd.data.images import ImageFile
from tasks.batches.proposals import FileProposals, GridProposals, write_proposals
from tasks.vqa.settings import VqaSplit


@pytest.fixture
def image(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    return ImageFile(tmp_path / "a.jpg", "file:1", "unpack it")


def test_a_grid_has_its_cells_row_by_row(image):
    boxes, size = GridProposals(2)("a.jpg", image)
    assert size == (40, 20)
    assert boxes.tolist() == [[0, 0, 20, 10], [20, 0, 40, 10], [0, 10, 20, 20], [20, 10, 40, 20]]
    assert GridProposals(0)("a.jpg", image)[0].shape == (0, 4)
    with pytest.raises(ValueError, match="grid is -1"):
        VqaSplit(grid=-1)
    missing = ImageFile(image.path.with_name("b.jpg"), "file:2", "unpack it")
    with pytest.raises(FileNotFoundError, match=r"file:2: image .*b\.jpg is missing; unpack it"):
        GridProposals(2)("b.jpg", missing)


def test_a_file_gives_what_was_written(image, tmp_path):
    path = tmp_path / "proposals.jsonl"
    boxes = np.array([[1, 2, 30, 19], [0.5, 0, 40, 20]])
    write_proposals(path, [("a.jpg", (40, 20), boxes), ("b.jpg", (8, 8), np.zeros((0, 4)))])
    found, size = VqaSplit(proposals=path).proposed("a.jpg", image)
    assert size == (40, 20)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, boxes)
    assert FileProposals(path)("b.jpg", image)[0].shape == (0, 4)
    with pytest.raises(ValueError, match=r"file:1: .*proposals\.jsonl has no boxes of c\.jpg"):
        FileProposals(path)("c.jpg", image)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"image": "a.jpg", "width": 40, "height": 20, "boxes": [[0, 0, 50, 10]]}',
            r":1: box .* is outside",
        ),
        ('{"image": "a.jpg", "width": 40, "height": 20, "boxes": [[5, 5, 5, 10]]}', "without area"),
        ('{"image": "a.jpg", "width": 40, "height": 20, "boxes": [[0, 0, 5]]}', ":1: unreadable"),
        ('{"image": "a.jpg", "boxes": [[0, 0, 5, 5]]}', r":1: unreadable \(KeyError\('width'\)\)"),
    ],
)
def test_bad_boxes_are_named(line, message, image, tmp_path):
    path = tmp_path / "proposals.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        FileProposals(path)("a.jpg", image)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"boxes": []}'], r":1: image is None, no file name"),
        (['{"image": "a.jpg"}'] * 2, r":2: image is 'a\.jpg', more than once"),
    ],
)
def test_every_image_has_one_line(lines, message, tmp_path):
    path = tmp_path / "proposals.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        FileProposals(path)


def test_a_file_is_read_once_for_all_data_sets_and_again_if_it_changed(tmp_path):
    path, box = tmp_path / "proposals.jsonl", np.array([[1, 2, 30, 19]])
    write_proposals(path, [("a.jpg", (40, 20), box)])
    first, second = (VqaSplit(proposals=path).proposed for _ in range(2))
    assert first is second
    write_proposals(path, [("a.jpg", (40, 20), box), ("b.jpg", (40, 20), box)])
    assert VqaSplit(proposals=path).proposed is not first


def test_an_image_is_measured_once_for_all_questions_about_it(image, monkeypatch):
    measured = []
    dimensions = ImageFile.dimensions
    monkeypatch.setattr(ImageFile, "dimensions", lambda self: measured.append(self.where) or dimensions(self))
    for where in ("question 1", "question 2"):
        GridProposals(1)("a.jpg", dataclasses.replace(image, where=where))
    assert measured == ["question 1"]
