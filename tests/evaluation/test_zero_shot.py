"""Zero-shot classification against hand-made numbers and the bare open_clip model in float64."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from cliptd.evaluation.image_folder import ImageFolder
from cliptd.evaluation.ranking import class_ranks
from cliptd.evaluation.zero_shot import TEMPLATES, read_templates, zero_shot, zero_shot_classifier
from cliptd.teachers import load_teacher
from tests.helpers.table_encoder import TableEncoder, write_picture
from tests.helpers.tiny_clip import IMAGE_SIZE, tiny_image, tiny_open_clip_folder


def write_classes(folder, counts):
    """Write images numbered from 0, class after class, and return the ImageFolder."""
    number = 0
    for name, count in counts.items():
        for _ in range(count):
            write_picture(folder / name / f"{number:03d}.png", number)
            number += 1
    return ImageFolder(folder)


def test_a_class_is_the_mean_of_its_unit_texts_made_unit_length_again():
    texts = {"a cat": [1.0, 0.0], "no cat": [0.0, 1.0], "a dog": [0.6, 0.8], "no dog": [0.8, 0.6]}
    for batch_size in (1, 2, 3, 4):
        model = TableEncoder(torch.eye(2), texts, batch_size)
        classifier = zero_shot_classifier(model, ["cat", "dog"], ["a {}", "no {}"])
        torch.testing.assert_close(classifier, torch.full((2, 2), 0.5**0.5))
    torch.testing.assert_close(zero_shot_classifier(model, ["dog"], ["a {}"]), torch.tensor([[0.6, 0.8]]))


def test_accuracies_by_hand(tmp_path):
    # Six classes along the axes; three images of class a, one of class b and two of class f.
    images = torch.tensor(
        [
            [9, 1, 0, 0, 0, 0],  # right
            [1, 9, 0, 0, 0, 0],  # second
            [1, 6, 5, 4, 3, 2],  # sixth: wrong among five, too
            [0, 9, 0, 0, 0, 0],  # right
            [0, 0, 0, 0, 0, 9],  # right
            [5, 4, 3, 2, 0, 1],  # fifth
        ]
    )
    texts = {f"a {name}": row for name, row in zip("abcdef", torch.eye(6).tolist(), strict=True)}
    dataset = write_classes(tmp_path, {"a": 3, "b": 1, "f": 2})
    for name in "cde":
        write_picture(tmp_path / name / "never right.png", 0)
    dataset = ImageFolder(tmp_path)
    keep = [position for position, label in enumerate(dataset.labels) if dataset.classes[label] in "abf"]
    for column in ("images", "labels", "ids"):
        setattr(dataset, column, [getattr(dataset, column)[position] for position in keep])
    found = zero_shot(TableEncoder(images, texts), dataset, ["a {}"])
    assert found.pop("per_class") == {"a": pytest.approx(100 / 3), "b": 100.0, "f": 50.0}
    assert found == {
        "images": 6,
        "top1": 50.0,
        "top5": pytest.approx(500 / 6),
        "mean_per_class": pytest.approx((100 / 3 + 100 + 50) / 3),
        "skipped": [],
    }


def test_of_equally_near_classes_the_first_counts_so_a_collapsed_model_is_as_good_as_chance(tmp_path):
    dataset = write_classes(tmp_path, {"a": 2, "b": 2, "c": 2, "d": 2})
    model = TableEncoder(torch.ones(8, 2), {f"a {name}": [1.0, 1.0] for name in "abcd"})
    found = zero_shot(model, dataset, ["a {}"])
    assert (found["top1"], found["mean_per_class"]) == (25.0, 25.0)
    assert found["per_class"] == {"a": 100.0, "b": 0.0, "c": 0.0, "d": 0.0}
    assert "top5" not in found  # fewer than five classes


def test_ranks_are_those_of_a_stable_sort(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(-2, 3, (50, 3), generator=generator).float()  # many ties
    weight, bias = (torch.randint(-2, 3, shape, generator=generator).float() for shape in ((7, 3), (7,)))
    labels = torch.randint(0, 7, (50,), generator=generator)
    order = np.argsort(-(features.numpy() @ weight.numpy().T + bias.numpy()), axis=1, kind="stable")
    expected = [row.tolist().index(label) for row, label in zip(order, labels.tolist(), strict=True)]
    for held in (1, 20, 10**6):
        monkeypatch.setattr("cliptd.evaluation.ranking.BLOCK_PAIRS", held)
        assert class_ranks(features, labels, weight, bias).tolist() == expected


def test_an_open_clip_model_as_its_bare_self_classifies(tmp_path):
    folder = tiny_open_clip_folder(tmp_path / "model")
    names = ["dog", "cat", "red_house", "tree", "big_car"]
    for seed in range(20):
        path = tmp_path / "set" / names[seed % 5] / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_image(seed).save(path)
    dataset = ImageFolder(tmp_path / "set")
    found = zero_shot(load_teacher(str(folder), batch_size=3), dataset)

    model = open_clip.create_model(f"local-dir:{folder}").double().eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    weights = []
    with torch.no_grad():
        for name in dataset.class_names:
            texts = model.encode_text(tokenizer([template.format(name) for template in TEMPLATES]))
            mean = (texts / texts.norm(dim=1, keepdim=True)).sum(dim=0) / len(TEMPLATES)
            weights.append(mean / mean.norm())
        pixels = []
        for path in (tmp_path / "set" / name for name in dataset.ids):
            small = Image.open(path).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
            pixels.append(torch.from_numpy(((np.asarray(small) / 255 - 0.5) / 0.25).transpose(2, 0, 1)))
        images = model.encode_image(torch.stack(pixels))
    order = (images @ torch.stack(weights).T).argsort(dim=1, descending=True)
    hit = order[:, 0] == torch.tensor(dataset.labels)
    assert found["images"] == 20
    assert found["top1"] == pytest.approx(100 * hit.double().mean().item())
    assert found["top5"] == 100.0
    assert found["mean_per_class"] == pytest.approx(found["top1"])  # four images each
    assert list(found["per_class"]) == sorted(names)


def test_a_bad_image_is_named_or_left_out(tmp_path):
    dataset = write_classes(tmp_path, {"a": 2, "b": 1})
    model = TableEncoder(torch.eye(2)[[0, 1, 1]], {"a": [1.0, 0.0], "b": [0.0, 1.0]})
    (tmp_path / "a" / "001.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"a/001\.png is corrupt"):
        zero_shot(model, dataset, ["{}"])
    found = zero_shot(model, dataset, ["{}"], on_bad_sample="skip")
    assert (found["images"], found["top1"]) == (2, 100.0)
    assert [message.split(" is corrupt")[0][-7:] for message in found["skipped"]] == ["001.png"]
    (tmp_path / "b" / "002.png").write_bytes(b"broken")  # a class may lose all its images
    assert zero_shot(model, dataset, ["{}"], on_bad_sample="skip")["per_class"] == {"a": 100.0}


def test_templates_come_from_a_file(tmp_path):
    file = tmp_path / "templates.txt"
    file.write_text("\ufeffa {} of {curly} braces\n\n  one {}.  \n")
    assert read_templates(file) == ["a {} of {curly} braces", "one {}."]
    for text, message in (
        ("one {}\n\nnone\n", r"templates\.txt:3: 'none' holds \"\{\}\" 0 times; expected it once"),
        ("{} and {}\n", r"templates\.txt:1: '\{\} and \{\}' holds \"\{\}\" 2 times"),
        ("\n", r"templates\.txt: is empty; expected one template per line"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_templates(file)
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file; expected one template per line"):
        read_templates(tmp_path / "none.txt")


def test_wrong_templates_classes_and_texts_are_refused():
    model = TableEncoder(torch.eye(2), {"a": [1.0, 0.0], "b": [torch.nan, 0.0]})
    with pytest.raises(ValueError, match=r"templates: 'a cat' holds .* 0 times; expected it once"):
        zero_shot_classifier(model, ["cat"], ["a cat"])
    with pytest.raises(ValueError, match="found 0 classes and 1 templates; expected at least one of each"):
        zero_shot_classifier(model, [], ["{}"])
    with pytest.raises(ValueError, match="the embedding of text 'b' is not finite"):
        zero_shot_classifier(model, ["a", "b"], ["{}"])
