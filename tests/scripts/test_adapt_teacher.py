"""adapt_teacher.py as typed: an open_clip folder that has learned the task's own pairs."""

import json
from types import SimpleNamespace

import pytest

from cliptd.teachers import load_teacher
from tasks.finetuning.adaptation import AdaptationPairs
from tasks.iconworld.files.snli_ve import SnliVeSizes, write_snli_ve
from tasks.iconworld.models import REGIONS, STUDENT, TEACHER
from tasks.vcr.data import VcrDataset
from tasks.vcr.texts import ChoiceTexts
from tests.helpers.commands import run_script
from tests.helpers.tiny_vcr import pair_tokenizer, tiny_vcr


def test_vcrs_pairs_are_the_right_choices(tmp_path):
    dataset = VcrDataset.from_root(tiny_vcr(tmp_path), "val")
    task = SimpleNamespace(
        collate=SimpleNamespace(texts=ChoiceTexts(pair_tokenizer())),
        true_of_their_images=lambda examples: examples,
    )
    pairs = AdaptationPairs(task, dataset)
    assert len(pairs) == len(dataset)
    assert (pairs[0].key, pairs[0].text) == ("lsmdc_0001_Tiny/0.jpg", "person is holding wine glass.")
    assert pairs[2].text == "person and person are dancing."
    assert pairs[0].image().size == (64, 48)
    unlabelled = VcrDataset.from_root(
        tiny_vcr(tmp_path, items=2, split="test", labels=False), "test", tasks="q_to_a"
    )
    with pytest.raises(ValueError, match=r"test\.jsonl:1.*: no label; adaptation needs the training file"):
        AdaptationPairs(task, unlabelled)[0]


@pytest.mark.slow
def test_a_teacher_learns_the_entailed_hypotheses(cache, tmp_path):
    root = write_snli_ve(tmp_path / "snli_ve", sizes=SnliVeSizes(120, 12, 12, 12))
    out = tmp_path / "adapted"
    arguments = (
        "--task", "snli_ve", "--out", out, "--steps", 3, "--batch-size", 8, "--eval-every", 3,
        "--save-every", 0, "--warmup-steps", 1, "--",
        "--data-root", root, "--student", STUDENT, "--regions", f"local-dir:{REGIONS}", "--teacher", TEACHER,
        "--items", 60, "--validation-items", 12,
    )  # fmt: skip
    done = run_script("adapt_teacher.py", *arguments, cache=cache)
    assert f"Adapted teacher: {out}" in done.stdout
    assert "Next: python scripts/finetune_snli_ve.py" in done.stdout
    assert load_teacher(str(out)).fingerprint != load_teacher(str(TEACHER)).fingerprint
    log = [json.loads(line) for line in (out / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 3
    assert (
        json.loads((out / "run" / "config.json").read_text())["dataset_length"] == 20
    )  # a third is entailed
    weights = (out / "open_clip_model.safetensors").stat().st_mtime_ns
    again = run_script("adapt_teacher.py", *arguments, cache=cache)
    assert f"{out} holds this adapted teacher, finished; nothing is trained again." in again.stdout
    assert (out / "open_clip_model.safetensors").stat().st_mtime_ns == weights


def test_only_open_clip_teachers_are_adapted(tmp_path):
    from cliptd.teachers import TeacherEnsemble
    from cliptd.training import TrainingConfig
    from tasks.finetuning.adaptation import adapt_to_task

    ensemble = TeacherEnsemble([load_teacher(str(TEACHER))])
    with pytest.raises(
        ValueError, match=r"teacher .* is not an open_clip model, and only these can be adapted"
    ):
        adapt_to_task(ensemble, None, TrainingConfig(), tmp_path, None)
