"""The tasks' metrics through the `evaluate` library, offline."""

import json
import os
import subprocess
import sys

from tests.helpers.commands import REPOSITORY

CODE = """
import json, evaluate
vqa = evaluate.load("tasks/vqa/vqa_metric.py")
told = [["yes"] * 9 + ["no"], ["2"] * 4 + ["two"] * 6]
kinds = [("is it", "yes/no"), ("how many", "number")]
references = [{"answers": a, "question_type": q, "answer_type": t} for a, (q, t) in zip(told, kinds)]
snli_ve = evaluate.load("tasks/snli_ve/snli_ve_metric.py")
found = vqa.compute(predictions=["No", "Two."], references=references)
print(json.dumps([found, snli_ve.compute(predictions=[0, 2], references=[0, 1])]))
"""


def test_vqa_and_snli_ve_load_by_their_path(tmp_path):
    environment = {
        **os.environ,
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    vqa, snli_ve = json.loads(done.stdout.splitlines()[-1])
    assert vqa["overall"] == 65.0  # 30 and 100
    assert vqa["per_answer_type"] == {"yes/no": 30.0, "number": 100.0}
    assert (snli_ve["accuracy"], snli_ve["pairs"]) == (50.0, 2)
