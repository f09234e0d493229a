"""evaluate_clip.py as typed, on icons, with the shipped teacher."""

import csv
import json
import re
import runpy

import numpy as np
import pytest
from PIL import Image

from tasks.iconworld.glyphs import FAMILIES
from tasks.iconworld.models import TEACHER
from tasks.iconworld.scenes import COLOUR_NAMES, name_of, render, sample_scenes
from tests.helpers.commands import REPOSITORY, run_script

CONCEPTS = range(8)


def write_icons(folder, images, seed):
    """Pictures of one icon each in folders of their concepts, and pairs.csv of what they show; → file names."""
    scenes = sample_scenes(
        np.random.default_rng(seed), images, FAMILIES[:1], objects=(1, 1), persons=(0, 0),
        concepts=np.array(CONCEPTS),
    )  # fmt: skip
    rows = []
    for number, pixels in enumerate(render(scenes)):
        cell = int(scenes.concept[number].argmax())
        concept = name_of(scenes.concept[number, cell])
        path = folder / concept.replace(" ", "_") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        rows.append((str(path), f"a {COLOUR_NAMES[scenes.colour[number, cell]]} {concept}"))
    with open(folder.parent / f"{folder.name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filepath", "title"), *rows])
    return [path for path, _ in rows]


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    root = tmp_path_factory.mktemp("icons")
    write_icons(root / "probe" / "train", 80, 0)
    write_icons(root / "probe" / "test", 48, 1)
    write_icons(root / "shifted", 48, 2)
    return root


def test_all_three_evaluations_end_in_json_and_markdown(icons, cache, tmp_path):
    broken = write_icons(tmp_path / "broken", 40, 3)
    with open(broken[0], "wb") as file:
        file.write(b"broken")
    (tmp_path / "templates.txt").write_text("a {}\na picture of a {}\n")
    done = run_script(
        "evaluate_clip.py", "--model", TEACHER, "--zero-shot", icons / "shifted", tmp_path / "broken",
        "--templates", tmp_path / "templates.txt", "--retrieval", icons / "shifted.csv",
        "--linear-probe", icons / "probe", "--on-bad-sample", "skip", "--device", "cpu", "--out", tmp_path / "out",
        launcher=None, cache=cache,
    )  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    shifted, with_broken = results["zero_shot"]
    (pairs,), (probe,) = results["retrieval"], results["linear_probe"]
    assert results["templates"] == ["a {}", "a picture of a {}"]
    assert (shifted["name"], shifted["images"], shifted["skipped"]) == ("shifted", 48, [])
    assert (with_broken["name"], with_broken["images"], len(with_broken["skipped"])) == ("broken", 39, 1)
    assert f"{broken[0]} is corrupt" in with_broken["skipped"][0]
    assert min(shifted["top1"], with_broken["top1"], probe["top1"]) > 60  # chance is 12.5
    assert shifted["top1"] <= shifted["top5"] <= 100
    assert len(shifted["per_class"]) == 8
    assert (pairs["images"], pairs["texts"]) == (48, 48)
    assert min(pairs["image_to_text_r5"], pairs["text_to_image_r5"]) > 50  # chance is about 10
    assert (probe["training_images"], probe["validation_images"], probe["images"]) == (64, 16, 48)
    report = (tmp_path / "out" / "results.md").read_text()
    assert f"| broken | 39 | {with_broken['top1']:.2f} | {with_broken['top5']:.2f} |" in report
    for heading in ("# ", "## Zero-shot classification", "## Retrieval", "## Linear probe"):
        assert f"\n{heading}" in f"\n{report}"
    assert f"Results: {tmp_path / 'out' / 'results.md'}" in done.stdout
    assert f"Next: python scripts/export.py --model {TEACHER}" in done.stdout
    assert {"versions", "hardware", "peak_memory"} <= results.keys()


def test_what_cannot_be_evaluated_is_refused_before_the_model_is_loaded(icons, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        command = [
            "evaluate_clip.py",
            "--model",
            tmp_path / "no model",
            "--out",
            tmp_path / "out",
            *arguments,
        ]
        monkeypatch.setattr("sys.argv", list(map(str, command)))
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(REPOSITORY / "scripts" / "evaluate_clip.py"), run_name="__main__")
        return f"{end.value.code} {capsys.readouterr().err}"

    assert run().startswith(
        "1 error: nothing to evaluate; give --zero-shot, --retrieval, --linear-probe or --suite"
    )
    said = run("--zero-shot", icons / "shifted", "--linear-probe", icons)
    assert said.startswith("1 error: ")
    assert "train: no such folder; expected one with a folder of images for each" in said
    said = run("--zero-shot", icons / "shifted")
    assert re.search(r"^1 error: teacher folder .*no model does not exist", said)
    assert not (tmp_path / "out").exists()


def test_a_suite_of_plain_and_shifted_sets(icons, cache, tmp_path):
    (icons / "sets.yaml").write_text(
        "- {name: icons, images: probe/test, linear_probe: probe}\n"
        "- {name: moved, images: shifted, shifted_from: icons}\n"
        "- {name: again, images: shifted, shifted_from: icons}\n"
    )
    run_script(
        "evaluate_clip.py", "--model", TEACHER, "--suite", icons / "sets.yaml", "--device", "cpu", "--out", tmp_path,
        launcher=None, cache=cache,
    )  # fmt: skip
    rows = json.loads((tmp_path / "results.json").read_text())["suite"]
    assert [row["name"] for row in rows] == ["icons", "moved", "again", "mean of shifted icons"]
    assert min(row["zero_shot"] for row in rows) > 60  # chance is 12.5
    assert rows[3]["linear_probe_drop"] == rows[1]["linear_probe_drop"]
    assert "| data set | shifted from | images |" in (tmp_path / "results.md").read_text()
