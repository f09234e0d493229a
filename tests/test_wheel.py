"""What is published: the sdist holds everything to build and test, the wheel everything to run the commands."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import cliptd
from tasks.commands.__main__ import names
from tests.helpers.commands import REPOSITORY

NOT_SOURCES = shutil.ignore_patterns(
    ".git", "*.egg-info", "__pycache__", "build", "dist", "runs", "venv", ".venv", ".*_cache", "site"
)
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2]))"

pytestmark = pytest.mark.slow


def build(kind: str, folder: Path, out: Path) -> Path:
    """Build an sdist or a wheel without the network and without an environment of its own."""
    out.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(out)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(REPOSITORY, folder / "cliptd", ignore=NOT_SOURCES)
    return build("sdist", folder / "cliptd", folder / "dist")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Build the wheel from the sdist, as pip does."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as tar:
        tar.extractall(folder, filter="data")
    return build("wheel", folder / sdist.name.removesuffix(".tar.gz"), folder / "dist")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel alone; its dependencies are those of the test's environment."""
    folder = tmp_path_factory.mktemp("installed")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        folder,
        wheel,
    ]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": ""})
    return folder


def run(installed, folder, *command):
    """Run a command in a folder outside the checkout; return what it printed."""
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "CLIPTD_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "ACCELERATE_USE_CPU": "true",
        "COLUMNS": "120",
    }
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_sdist_holds_scripts_tests_examples_and_settings_of_the_checks(sdist):
    with tarfile.open(sdist) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    for folder in ("scripts", "tests", "examples", "docs", "cliptd", "tasks"):
        files = [
            path
            for path in (REPOSITORY / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
        missing = {str(path.relative_to(REPOSITORY)) for path in files} - held
        assert not {name for name in missing if name.endswith((".py", ".pyi", ".toml", ".sh"))}, missing
        if folder in ("tests", "scripts", "examples"):
            assert not missing
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", ".ci/run", "tests/conftest.py"} <= held


def test_the_wheel_holds_packages_types_and_models(wheel):
    assert wheel.name == f"cliptd-{cliptd.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in held if name.endswith("/METADATA"))
    needed = [
        path.relative_to(REPOSITORY).as_posix()
        for package in ("cliptd", "tasks")
        for path in (REPOSITORY / package).rglob("*")
        if path.suffix in (".py", ".pyi", ".typed", ".safetensors", ".txt") or "models" in path.parts
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert "cliptd/py.typed" in needed
    assert "tasks/iconworld/models/teacher/open_clip_model.safetensors" in needed
    assert not set(needed) - held
    assert not {name for name in held if name.startswith(("tests/", "scripts/", "examples/"))}
    assert "Author: The cliptd authors" in metadata
    assert "Keywords: CLIP" in metadata
    assert f"Version: {cliptd.__version__}" in metadata


def test_an_installed_wheel_runs_outside_the_checkout(installed, tmp_path):
    where = run(
        installed,
        tmp_path,
        sys.executable,
        "-c",
        "import cliptd, tasks; print(cliptd.__file__, tasks.__file__)",
    )
    assert where.count(str(installed)) == 2
    listed = run(installed, tmp_path, installed / "bin" / "cliptd", "--help")
    assert all(f"  {name} " in listed for name in names())
    said = run(installed, tmp_path, sys.executable, "-m", "tasks.commands.finetune_vcr", "--help")
    assert "accelerate launch -m tasks.commands.finetune_vcr --data-root vcr1" in said
    said = run(
        installed, tmp_path, installed / "bin" / "cliptd", "distill-embeddings", "affinity", "--steps", 2,
        "--batch-size", 8, "--warmup-steps", 1, "--run-dir", "run",
    )  # fmt: skip
    assert "of its teacher's" in said
    assert "Next: cliptd evaluate_clip --model run/model" in said
    said = run(
        installed, tmp_path, sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", 1,
        "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no", "-m",
        "tasks.commands.finetune_snli_ve", "--steps", 2, "--batch-size", 4, "--items", 24, "--validation-items", 8,
        "--max-test-items", 8, "--warmup-steps", 0, "--eval-every", 0, "--run-dir", "snli",
    )  # fmt: skip
    assert "against none (one seed: not conclusive)" in said
    assert "Next: cliptd evaluate_low_shot --task snli_ve" in said
    assert (tmp_path / "snli" / "results.json").is_file()
