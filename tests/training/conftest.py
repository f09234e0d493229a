"""One server of forked runs for the tests that kill or join processes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def forked_run(tmp_path_factory):
    from forked_runs import ForkedRuns

    runs = ForkedRuns(tmp_path_factory.mktemp("forked") / "errors.txt")
    yield runs
    runs.close()
