"""Defaults on the user's own data and on the embedded benchmark."""

import pytest

from tasks.changed_defaults import changed_defaults
from tasks.known_tasks import TASKS, parse_settings


@pytest.mark.parametrize("name", list(TASKS))
def test_own_data_compare_with_a_baseline_too_and_changed_defaults_are_said(name, tmp_path, capsys):
    known = TASKS[name]
    settings = parse_settings(known, None, ["--data-root", str(tmp_path), "--lr", "1e-4", "--batch_size=64"])
    assert settings.methods == ("none", "targeted")
    said = capsys.readouterr().err
    steps = known.settings().training.steps
    assert f"--steps 2000 (there {steps})" in said
    assert "--teacher-boxes crop (there alone)" in said
    assert "because the embedded benchmark trains a small student" in said
    assert "--lr" not in said  # it is typed
    assert "--batch-size" not in said
    assert "--student" not in said
    assert "distillation.distance not set (there infonce)" in said


def test_only_the_first_process_says_what_differs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    parse_settings(TASKS["vcr"], None, ["--data-root", str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_equal_defaults_are_not_worth_a_line():
    settings = TASKS["vcr"].settings()
    assert changed_defaults(settings, settings, []) is None


@pytest.mark.parametrize(
    ("arguments", "fraction", "items"),
    [
        (["--fraction", "0.1"], 0.1, None),
        (["--fraction=0.1"], 0.1, None),
        (["--items", "7"], None, 7),
        ([], None, 200),
    ],
)
def test_a_share_takes_the_place_of_the_benchmarks_number_of_items(
    arguments, fraction, items, monkeypatch, tmp_path
):
    monkeypatch.setattr("tasks.known_tasks.on_iconworld", lambda settings, root: settings)
    known = TASKS["vcr"]
    monkeypatch.setattr("tasks.iconworld.files.vcr.write_vcr", lambda folder, **options: folder)
    data = parse_settings(known, None, arguments).data
    assert (data.fraction, data.items) == (fraction, items)


@pytest.mark.parametrize("share", ["0", "1.5", "-0.1"])
def test_a_share_outside_0_to_1_is_refused_by_its_flag(share):
    with pytest.raises(
        ValueError, match=f"^--fraction is {float(share)}, expected a share above 0 and at most 1"
    ):
        parse_settings(TASKS["snli_ve"], None, ["--fraction", share])
