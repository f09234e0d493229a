"""One thread per test process, no network, derived files in the test's own folder."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Derived files go into the test's own folder."""
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
