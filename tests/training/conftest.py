"""Everything on the CPU, and one server of forked runs for the tests that kill or join processes."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", "true")
        yield


@pytest.fixture(scope="session")
def forked_run(tmp_path_factory):
    from tests.helpers.forked_runs import ForkedRuns

    runs = ForkedRuns(tmp_path_factory.mktemp("forked") / "errors.txt")
    yield runs
    runs.close()
