"""A suite of base sets and shifted sets: scores and drops by hand, and the messages about errors in its file."""

import pytest
import torch

from cliptd.evaluation.suite import averages, evaluate_suite
from cliptd.evaluation.suite_file import read_suite
from tests.helpers.table_encoder import TableEncoder, write_picture

CLASSES = ("ape", "bee", "cat")
TEXTS = {f"a {name}": torch.eye(3)[k] for k, name in enumerate(CLASSES)}


def write_set(folder, numbers):
    """numbers: {class: picture numbers}."""
    for name, own in numbers.items():
        for number in own:
            write_picture(folder / name / f"{number:03d}.png", number)


@pytest.fixture
def model():
    eye = torch.eye(3)
    pictures = [
        eye[0],  # 0, of an ape
        eye[1],  # 1, of a bee
        eye[2],  # 2, of a cat
        torch.tensor([0.0, 0.6, 0.8]),  # 3: more a cat than a bee
        torch.tensor([0.8, 0.0, 0.6]),  # 4: more an ape than a cat
    ]
    return TableEncoder(torch.stack(pictures), TEXTS, batch_size=30)


@pytest.fixture
def file(tmp_path):
    write_set(tmp_path / "base", {"ape": [0, 4], "bee": [1, 3], "cat": [2]})
    write_set(tmp_path / "shifted", {"ape": [4], "cat": [4, 2]})
    for part in ("train", "val", "test"):
        write_set(tmp_path / "probe" / part, {"ape": [0], "bee": [1], "cat": [2]})
    (tmp_path / "templates.txt").write_text("a {}\n")
    path = tmp_path / "sets.yaml"
    path.write_text(
        "- {name: moved, images: shifted, shifted_from: plain, templates: templates.txt}\n"
        "- {name: plain, images: base, linear_probe: probe, templates: templates.txt}\n"
        "- {name: other, images: base, templates: templates.txt, metric: mean_per_class}\n"
    )
    return path


def test_scores_and_drops_are_those_by_hand(file, model):
    seen = []
    rows = evaluate_suite(model, read_suite(file), after_each=lambda rows: seen.append(len(rows)))
    plain, other, moved = rows
    assert seen == [1, 2, 3]
    assert [row["name"] for row in rows] == ["plain", "other", "moved"]
    # Of five pictures the second bee is called a cat; classes: 2 of 2, 1 of 2, 1 of 1.
    assert plain["zero_shot"] == pytest.approx(100 * 4 / 5)
    assert other["zero_shot"] == pytest.approx(100 * (1 + 1 / 2 + 1) / 3)
    assert plain["linear_probe"] == 100
    # Shifted: the ape, and one of two cats; among the two classes the plain set's three apes and cats are all right.
    assert moved["zero_shot"] == pytest.approx(100 * 2 / 3)
    assert moved["zero_shot_drop"] == pytest.approx(100 - 100 * 2 / 3)
    assert moved["linear_probe"] == pytest.approx(100 * 2 / 3)
    assert moved["linear_probe_drop"] == pytest.approx(100 / 3)
    (mean,) = averages(rows)
    assert mean["name"] == "mean"
    assert mean["zero_shot"] == pytest.approx((plain["zero_shot"] + other["zero_shot"]) / 2)
    assert mean["linear_probe"] == 100
    assert averages([moved, moved])[0]["name"] == "mean of shifted plain"
    assert averages([moved, moved])[0]["zero_shot_drop"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"sets\.yaml: is no YAML"),
        ("{name: a}", r"sets\.yaml: found dict, expected a list of data sets"),
        ("- {name: a}", r"data set 1: found \{'name': 'a'\}, expected name, images and perhaps linear_probe"),
        ("- {name: a, images: base, colour: red}", r"data set 1: found .*'colour'"),
        ("- {name: a, images: none}", r"data set 1: .*none: no such folder"),
        (
            "- {name: a, images: base, metric: top9}",
            r"metric is 'top9', expected one of top1, mean_per_class",
        ),
        ("- {name: a, images: base}\n- {name: a, images: base}", r"the name 'a' occurs twice"),
        (
            "- {name: a, images: base, shifted_from: b}",
            r"a is shifted_from 'b'; expected one of the plain sets",
        ),
        (
            "- {name: a, images: shifted}\n- {name: b, images: base, shifted_from: a}",
            r"b has the class 'bee' \(1 such\), which a lacks",
        ),
        (
            "- {name: a, images: base}\n- {name: b, images: base, shifted_from: a, linear_probe: probe}",
            r"b is tested by the probe of a; remove its linear_probe",
        ),
    ],
)
def test_what_is_wrong_is_named(text, message, file):
    file.write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_suite(file)
    with pytest.raises(FileNotFoundError, match="expected a YAML list"):
        read_suite(file.with_name("none.yaml"))


def test_a_shifted_set_goes_by_its_bases_names_and_templates(file, model):
    (file.parent / "base" / "classes.json").write_text('{"ape": "monkey", "bee": "bee", "cat": "cat"}')
    for name in ("monkey", "bee", "cat"):
        own = torch.eye(3)[["monkey", "bee", "cat"].index(name)]
        model.texts |= {f"one {name}": own, f"no {name}": own.flip(0)}
    (file.parent / "templates.txt").write_text("one {}\n")
    (file.parent / "other.txt").write_text("no {}\n")
    file.write_text(
        "- {name: plain, images: base, templates: templates.txt}\n"
        "- {name: same, images: base, shifted_from: plain}\n"
        "- {name: other, images: base, shifted_from: plain, templates: other.txt}\n"
    )
    plain, same, other = evaluate_suite(model, read_suite(file))
    assert same["zero_shot"] == plain["zero_shot"] == 80
    assert same["zero_shot_drop"] == 0
    assert other["zero_shot"] < 50
    file.write_text("- {name: plain, images: base}\n")
    (row,) = evaluate_suite(model, read_suite(file), templates=["one {}"])
    assert row["zero_shot"] == 80


def test_bad_images_are_left_out_and_listed(file, model):
    (file.parent / "shifted" / "cat" / "x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"x\.png"):
        evaluate_suite(model, read_suite(file))
    rows = evaluate_suite(model, read_suite(file), on_bad_sample="skip")
    assert [len(row["skipped"]) for row in rows] == [0, 0, 1]
    assert rows[2]["images"] == 3
