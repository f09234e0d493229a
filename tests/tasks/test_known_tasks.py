"""The table of the tasks: classes, splits, ids and teacher scores are found under their names."""

import pickle

import pytest

from tasks.iconworld.defaults import on_iconworld
from tasks.iconworld.files.snli_ve import SnliVeSizes
from tasks.iconworld.files.vcr import VcrSizes
from tasks.iconworld.files.vqa import VqaSizes
from tasks.known_tasks import TASKS

SIZES = {
    "vcr": VcrSizes(60, 8, 8, 8),
    "vqa": VqaSizes(120, 9, 9, 9, 9),
    "snli_ve": SnliVeSizes(60, 12, 12, 12),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_gives_its_splits_and_their_ids(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path))
    known = TASKS[name]
    settings = on_iconworld(known.settings(), known.root(sizes=SIZES[name]))
    data = settings.data
    data.items, data.validation_items = 20, 12
    labelled, validation, description = known.training_sets(data, 0)
    ids, held = known.item_ids(labelled), known.item_ids(validation)
    assert len({*ids}) == description["labelled_items"]
    assert not {*ids} & {*held}
    assert settings.test_sets


@pytest.mark.parametrize("name", TASKS)
def test_a_task_goes_to_other_processes_and_names_what_exists(name):
    known = pickle.loads(pickle.dumps(TASKS[name]))
    assert known.task_class.__name__.endswith("Task")
    assert known.main_metric in known.settings().metrics
    assert known.about_teacher_score.startswith("The teacher itself")
