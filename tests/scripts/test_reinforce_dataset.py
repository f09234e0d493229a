"""reinforce_dataset.py as typed, killed and in two processes; then distill_embeddings.py on what it wrote."""

import signal
import subprocess
import time

import open_clip
import pytest

from cliptd.data.pairs.loading import load_pairs
from cliptd.reinforcement.checks import check_replay
from cliptd.reinforcement.compact_layout import ReinforcedStore
from cliptd.reinforcement.public_layout import ReinforcedTars
from cliptd.teachers import load_teacher
from tasks.iconworld.models import TEACHER
from tests.helpers.commands import command_of, environment, run_script

SMALL = ("--shard-size", 4, "--augmentations", 40, "--chunk", 2)


def reinforced_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(of_a_user, cache, tmp_path_factory):
    """What a run without a kill wrote, in each layout."""
    folder = tmp_path_factory.mktemp("whole")
    for layout in ("compact", "public"):
        done = run_script(
            "reinforce_dataset.py",
            *of_a_user[:2],
            *SMALL,
            "--layout",
            layout,
            "--out",
            folder / layout,
            "--check",
            5,
            cache=cache,
        )
        assert "5 samples replayed: stored and computed embeddings differ by at most" in done.stdout
        assert "24 pairs, 40 augmentations and 0 captions each" in done.stdout
        assert "of 24 whole and" in done.stdout
        assert "the embedded benchmark's small teacher reinforces your data" in done.stdout
        assert "Next: accelerate launch scripts/distill_embeddings.py reinforced --" in done.stdout
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["compact", "public"])
def test_killed_and_run_again_it_ends_in_the_same_bytes(whole, of_a_user, cache, tmp_path, layout):
    arguments = (*of_a_user[:2], *SMALL, "--layout", layout, "--out", tmp_path)
    ending = "tar" if layout == "public" else "safetensors"
    process = subprocess.Popen(
        command_of("reinforce_dataset.py", arguments),
        env=environment(cache),
        cwd=cache,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not (tmp_path / f"reinforced-00001.{ending}").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob(f"*.{ending}"))) < 6
    run_script("reinforce_dataset.py", *arguments, cache=cache)
    assert reinforced_bytes(tmp_path) == reinforced_bytes(whole / layout)


@pytest.mark.slow
def test_two_processes_write_what_one_does(whole, of_a_user, cache, tmp_path):
    arguments = (*of_a_user[:2], *SMALL, "--out", tmp_path)
    run_script("reinforce_dataset.py", *arguments, launcher="two processes", cache=cache)
    assert reinforced_bytes(tmp_path) == reinforced_bytes(whole / "compact")


@pytest.mark.slow
def test_students_are_trained_on_either_layout(whole, of_a_user, cache, tmp_path):
    pairs = load_pairs(str(of_a_user[1]))
    teacher = load_teacher(str(TEACHER))  # every sample, which other processes wrote
    assert check_replay(ReinforcedStore(whole / "compact", pairs), teacher) < 2**-11
    assert check_replay(ReinforcedTars(sorted((whole / "public").glob("*.tar"))), teacher) < 1e-5
    short = ("--steps", 4, "--eval-every", 2, "--save-every", 2, "--batch-size", 8, "--warmup-steps", 1)
    common = ("--objective", "reinforced", "--student", TEACHER, *of_a_user[2:], *short)
    compact = (*of_a_user[:2], "--reinforced", whole / "compact")
    for name, data in (("compact", compact), ("public", ("--data", f"{whole}/public/*.tar"))):
        done = run_script("distill_embeddings.py", *common, *data, "--run-dir", tmp_path / name, cache=cache)
        assert "zero-shot, in percent" in done.stdout
        open_clip.create_model_and_transforms(f"local-dir:{tmp_path / name / 'model'}")
        assert "reinforced" in (tmp_path / name / "model" / "README.md").read_text()
    losses = [(tmp_path / name / "run" / "log.jsonl").read_text() for name in ("compact", "public")]
    assert losses[0].count("loss_text") == 4
    done = run_script("distill_embeddings.py", *common, *of_a_user[:2], cache=cache, check=False)
    assert "has no paug.json" in " ".join(done.stdout.split())
