"""The teacher's own score, kept beside a grid's cells."""

import pytest

from tasks.known_tasks import TASKS
from tasks.low_shot.teacher_score import kept_teacher_scores, teacher_scores


@pytest.mark.slow
def test_the_teacher_is_scored_once_for_every_test_set(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    from tasks.iconworld.defaults import on_iconworld
    from tasks.iconworld.files.vcr import VcrSizes

    known = TASKS["vcr"]
    root = known.root(sizes=VcrSizes(60, 30, 30, 8))
    settings = on_iconworld(known.settings(), root)
    settings.data.items, settings.data.validation_items = 20, 12
    assert kept_teacher_scores(tmp_path, settings) is None
    rows = teacher_scores(tmp_path, settings, known)
    assert [row["test_set"] for row in rows] == ["val", "singular", "val_shifted"]
    assert all(row["q_to_a"] > 50 for row in rows)  # chance is 25
    assert kept_teacher_scores(tmp_path, settings) == rows
    settings.test_sets = (*settings.test_sets, "test")
    assert kept_teacher_scores(tmp_path, settings) is None
