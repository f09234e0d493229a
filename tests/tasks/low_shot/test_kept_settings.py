"""Settings that all runs of a folder share."""

import pytest

from tasks.low_shot.kept_settings import keep_settings, kept_settings


def test_what_differs_is_named_with_both_values(tmp_path):
    keep_settings(tmp_path, {"training": {"batch_size": 8}})
    keep_settings(tmp_path, {"training": {"batch_size": 8}})
    assert kept_settings(tmp_path) == {"training": {"batch_size": 8}}
    with pytest.raises(
        ValueError, match=r"other settings \(training\.batch_size is 8 there, 16 here\); use another"
    ):
        keep_settings(tmp_path, {"training": {"batch_size": 16}})


def test_a_folder_without_runs_has_none(tmp_path):
    assert kept_settings(tmp_path) == {}
