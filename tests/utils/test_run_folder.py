"""A folder remembers its settings, and other settings are refused by their names."""

from pathlib import Path

import pytest

from cliptd.utils.run_folder import refuse_other_settings, remember_settings, remembered_settings

SETTINGS = {"data": Path("train"), "scale": (0.1, 1.0), "training": {"lr": 1e-3, "steps": 5}, "store": None}
HOLDS = {"holds": "another run", "remedy": "use another folder"}


def test_settings_are_the_same_when_they_are_read_again(tmp_path):
    path = tmp_path / "new" / "settings.json"
    assert remembered_settings(path, "delete it") is None
    remember_settings(path, SETTINGS)
    there = remembered_settings(path, "delete it")
    assert there == {**SETTINGS, "data": "train", "scale": [0.1, 1.0]}
    refuse_other_settings(path.parent, there, SETTINGS, **HOLDS)  # a path and a tuple are not other settings
    assert list(path.parent.iterdir()) == [path]


def test_a_setting_that_an_old_folder_lacks_may_only_be_none(tmp_path):
    old = {"data": "train", "scale": [0.1, 1.0], "training": {"lr": 1e-3, "steps": 5}}
    refuse_other_settings(tmp_path, old, SETTINGS, **HOLDS)
    with pytest.raises(ValueError, match=r"\(store is None there, 'a' here\)"):
        refuse_other_settings(tmp_path, {}, {"store": "a"}, **HOLDS)


def test_every_other_setting_is_named_with_both_values(tmp_path):
    here = {**SETTINGS, "data": Path("val"), "training": {"lr": 1e-2, "steps": 5}}
    remember_settings(tmp_path / "settings.json", SETTINGS)
    there = remembered_settings(tmp_path / "settings.json", "delete it")
    expected = (
        "holds another run (data is 'train' there, 'val' here; training.lr is 0.001 there, 0.01 here); use"
    )
    with pytest.raises(ValueError) as error:  # noqa: PT011
        refuse_other_settings(tmp_path, there, here, **HOLDS)
    assert str(error.value) == f"{tmp_path} {expected} another folder"


def test_a_damaged_file_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text('{"data": ')
    with pytest.raises(ValueError, match=r"settings\.json is not complete JSON .*; delete it$"):
        remembered_settings(path, "delete it")
