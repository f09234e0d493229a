"""One thread per test process, no network, and helpers importable (`from tiny_clip import …`)."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
TESTS = Path(__file__).parent
for folder in (TESTS, TESTS / "tasks" / "vcr", TESTS / "tasks" / "vqa"):
    sys.path.insert(0, str(folder))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Derived files go into the test's own folder."""
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
