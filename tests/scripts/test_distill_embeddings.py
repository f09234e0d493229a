"""distill_embeddings.py as typed: iconworld by default, shards and class folders of a user, two processes, stages."""

import json
import re

import open_clip
import pytest

from tasks.iconworld.models import TEACHER
from tests.helpers.commands import run_script
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_open_clip_folder

SHORT = (
    "--steps", 4, "--eval-every", 2, "--save-every", 2, "--batch-size", 8, "--warmup-steps", 1, "--num-workers", 0,
)  # fmt: skip


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_half_the_teacher_on_iconworld_is_an_open_clip_model(cache, tmp_path):
    run = tmp_path / "run"
    done = run_script("distill_embeddings.py", *SHORT, "--run-dir", run, cache=cache)
    assert f"Model: {run / 'model'}" in done.stdout
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{run / 'model'}")
    whole = open_clip.create_model(f"local-dir:{TEACHER}")
    ratio = sum(p.numel() for p in model.parameters()) / sum(p.numel() for p in whole.parameters())
    assert 0.4 < ratio < 0.6
    card = json.loads((run / "model" / "card.json").read_text())
    assert card["zero_shot_percent"][0]["top1"] > 95  # the teacher's
    assert card["settings"]["training"]["steps"] == 4
    assert "affinity" in (run / "model" / "README.md").read_text()
    found = json.loads((run / "results.json").read_text())
    assert found["settings"]["objective"] == "affinity"
    assert {"versions", "hardware", "peak_memory", "seconds", "teachers", "data", "rows"} <= found.keys()
    assert re.search(r"reaches \d+\.\d of its teacher's 9\d\.\d % top-1 zero-shot with 5\d % of", done.stdout)
    assert f"Next: python scripts/evaluate_clip.py --model {run / 'model'} --zero-shot FOLDER" in done.stdout
    again = run_script(
        "distill_embeddings.py", "affinity", *SHORT, "--run-dir", run, launcher=None, cache=cache
    )
    assert again.stdout.startswith(f"{run} holds this run, finished; nothing is trained again.")
    table = "zero-shot, in percent"
    assert done.stdout[done.stdout.index(table) :] == again.stdout[again.stdout.index(table) :]


@pytest.mark.slow
def test_a_users_shards_with_masks_in_one_process_and_in_two(of_a_user, cache, tmp_path):
    common = (
        *of_a_user, *SHORT, "--teacher", TEACHER, "--objective", "clip_kd", "--source", "store",
        "--progressive", 0.6, "--learned-masks", "--ramp-steps", 2, "--mask-lr", 1.0,
    )  # fmt: skip
    single, double = tmp_path / "single", tmp_path / "double"
    run_script("distill_embeddings.py", *common, "--run-dir", single, cache=cache)
    assert (single / "store" / "index.json").exists()
    run_script("distill_embeddings.py", *common, "--run-dir", double, launcher="two processes", cache=cache)
    for stage in ("masks/run", "run"):
        one, two = (losses(run / "stage-0.6" / stage) for run in (single, double))
        assert two == pytest.approx(one, rel=1e-3)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{double / 'model'}")
    assert model.visual.conv1.out_channels <= 192


@pytest.mark.slow
def test_without_classes_the_last_step_is_kept(of_a_user, cache, tmp_path):
    shards = of_a_user[:2]
    arguments = (*shards, *SHORT, "--teacher", TEACHER, "--run-dir", tmp_path)
    done = run_script("distill_embeddings.py", *arguments, cache=cache)
    assert (
        json.loads((tmp_path / "model" / "card.json").read_text())["zero_shot_percent"][1]["best_step"] == 4
    )
    assert "zero-shot, in percent" in done.stdout
    open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")


@pytest.mark.slow
def test_a_student_without_a_teacher(of_a_user, cache, tmp_path):
    tiny_open_clip_folder(tmp_path / "student")
    arguments = (*of_a_user, *SHORT, "--student", tmp_path / "student", "--run-dir", tmp_path / "run")
    run_script("distill_embeddings.py", *arguments, "--objective", "contrastive", cache=cache)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "Trained by cliptd (contrastive) on" in card
    assert "teacher" not in card
    done = run_script("distill_embeddings.py", *arguments, cache=cache, check=False)
    assert done.returncode
    assert "name a --teacher: affinity compares the student with one" in " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["live", "store"])
def test_a_clip_and_a_siglip_together_teach_a_siglip(source, of_a_user, cache, tmp_path):
    siglip, student = tiny_hf_folder(tmp_path / "siglip", "siglip"), tmp_path / "student"
    tiny_open_clip_folder(student, init_logit_bias=-10.0)
    run = tmp_path / "run"
    run_script(
        "distill_embeddings.py", *of_a_user, *SHORT, "--teacher", f"{TEACHER},hf:{siglip}", "--student", student,
        "--weights", "affinity", 1, "sigmoid", 1, "feature", 100, "--source", source, "--run-dir", run, cache=cache,
    )  # fmt: skip
    seen = [json.loads(line) for line in (run / "run" / "log.jsonl").read_text().splitlines()]
    assert {"loss_affinity", "loss_sigmoid", "loss_feature"} <= set(seen[0])
    assert seen[-1]["loss"] < seen[0]["loss"]
    card = json.loads((run / "model" / "card.json").read_text())
    assert card["zero_shot_percent"][0]["model"] == f"teacher {TEACHER},hf:{siglip}"
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{run / 'model'}")
    assert float(model.logit_bias) != -10.0  # learned, and kept


@pytest.mark.slow
def test_stages_with_learned_masks(of_a_user, cache, tmp_path):
    arguments = (
        *of_a_user, *SHORT, "--teacher", TEACHER, "--progressive", 0.7, 0.4, "--learned-masks", "--ramp-steps", 2,
        "--run-dir", tmp_path,
    )  # fmt: skip
    first = run_script("distill_embeddings.py", *arguments, cache=cache)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("stage-*/*/*.safetensors")}
    assert len(written) == 4  # two stages, each pruned and distilled
    again = run_script("distill_embeddings.py", *arguments, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("stage-*/*/*.safetensors")} == written
    table = "zero-shot, in percent"
    assert first.stdout[first.stdout.index(table) :] == again.stdout[again.stdout.index(table) :]


@pytest.mark.slow
def test_grounded_sentences_are_the_same_in_one_process_and_in_two(of_a_user, cache, tmp_path):
    lines = [f"a photo of {n} {thing}" for n in range(20) for thing in ("dogs", "sums", "cats")]
    (tmp_path / "corpus.txt").write_text("\n".join(lines))
    common = (
        "--sentences", tmp_path / "corpus.txt", "--images", of_a_user[1], "--teacher", TEACHER, "--keep", 10,
        "--chunk", 8,
    )  # fmt: skip
    for name, launcher in (("one", "accelerate"), ("two", "two processes")):
        done = run_script(
            "select_sentences.py", *common, "--out", tmp_path / name, launcher=launcher, cache=cache
        )
        assert f"Sentences: {tmp_path / name / 'sentences.txt'}" in done.stdout
    one, two = ((tmp_path / name / "sentences.txt").read_text() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) == 10
    assert set(one.splitlines()) <= set(lines)


@pytest.mark.slow
def test_images_and_sentences_that_never_met_in_one_process_and_in_two(of_a_user, cache, tmp_path):
    _, shards, _, classes = of_a_user
    (tmp_path / "sentences.txt").write_text("".join(f"a photo of {n} dogs\n" for n in range(30)))
    common = (
        "--images", shards, "--sentences", tmp_path / "sentences.txt", "--zero-shot", classes, *SHORT, "--teacher",
        TEACHER, "--objective", "dime-fm", "--freeze", "text", "--source", "store", "--crop", 0.5, 1, "--crops", 2,
    )  # fmt: skip
    single, double = tmp_path / "single", tmp_path / "double"
    run_script("distill_embeddings.py", *common, "--run-dir", single, cache=cache)
    run_script("distill_embeddings.py", *common, "--run-dir", double, launcher="two processes", cache=cache)
    assert losses(double / "run") == pytest.approx(losses(single / "run"), rel=1e-3)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{double / 'model'}")
    whole = open_clip.create_model(f"local-dir:{TEACHER}")
    assert model.transformer.resblocks[0].attn.in_proj_weight.equal(
        whole.transformer.resblocks[0].attn.in_proj_weight
    )
    assert len(model.visual.transformer.resblocks) < len(whole.visual.transformer.resblocks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--zero-shot", "classes"),
            "--zero-shot goes with data of your own; the embedded benchmark has its own images",
        ),
        (("--objective", "reinforced"), "needs --reinforced, such as runs/reinforced"),
        (("--student", "ViT-B-23"), "open_clip has no model named 'ViT-B-23'; nearest:"),
        (("--progressive", "0.5", "--student", "ViT-B-32"), "the student ViT-B-32 has no weights"),
        (("--learned-masks",), "--learned-masks has no effect here"),
        (("--images", "photos"), "give --images and --sentences both, or neither"),
    ],
)
def test_what_does_not_fit_is_said(arguments, message, cache, tmp_path):
    done = run_script(
        "distill_embeddings.py", *arguments, *SHORT, "--run-dir", tmp_path, cache=cache, check=False
    )
    assert done.returncode != 0
    assert message in " ".join(done.stdout.split())
