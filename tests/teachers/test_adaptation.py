"""Teacher adaptation: the loss by hand, learning, resuming, and folders that open_clip itself reads."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import open_clip
import pytest
import torch

from cliptd.teachers import load_teacher
from cliptd.teachers.adaptation import (
    ContrastiveAdapter,
    Pair,
    adapt_teacher,
    contrastive_loss,
    identity,
    positive_pairs,
)
from cliptd.teachers.adaptation_config import adaptation_defaults
from cliptd.teachers.from_open_clip import save_open_clip
from cliptd.teachers.teacher import ImageError
from cliptd.training import TrainingConfig, read_log
from tests.helpers.commands import REPOSITORY
from tests.helpers.tiny_clip import tiny_hf_folder, tiny_image, tiny_open_clip_folder

WORDS = ("dog", "cat", "car", "tree")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"))


def pairs(copies=4):
    """Return four images, each several times, with the word that names it."""
    return [
        Pair(f"image-{i % 4}", lambda i=i: tiny_image(i % 4), f"a {WORDS[i % 4]}") for i in range(4 * copies)
    ]


def config(**changes):
    settings = {
        "steps": 6,
        "batch_size": 8,
        "lr": 1e-3,
        "eval_every": 3,
        "save_every": 3,
        "metric": "recall_at_1",
    }
    return TrainingConfig(**(settings | changes))


def loss_by_hand(images, texts, positives, scale, bias=None):
    """Return the same sums, written out with loops in float64."""
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    logits = scale * images @ texts.T
    n = len(logits)
    if bias is not None:
        return sum(
            math.log(1 + math.exp(-(1 if positives[i, j] else -1) * (logits[i, j] + bias)))
            for i in range(n)
            for j in range(n)
        ) / n  # fmt: skip
    total = 0.0
    for rows, mask in ((logits, positives), (logits.T, positives.T)):
        for row, right in zip(rows, mask, strict=True):
            log_sum = math.log(sum(math.exp(x) for x in row))
            total += sum(log_sum - x for x, yes in zip(row, right, strict=True) if yes) / right.sum()
    return total / (2 * n)


def test_the_loss_is_that_of_the_formula_with_shared_texts_and_images():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    image_ids, text_ids = torch.tensor([1, 2, 3, 1, 4]), torch.tensor([7, 8, 7, 9, 6])
    positives = positive_pairs(image_ids, text_ids)
    expected = torch.eye(5, dtype=torch.bool)
    for i, j in ((0, 2), (0, 3)):  # text 7 twice, image 1 twice
        expected[i, j] = expected[j, i] = True
    assert torch.equal(positives, expected)
    args = [torch.tensor(images), torch.tensor(texts), positives, 5.0]
    assert contrastive_loss(*args).item() == pytest.approx(
        loss_by_hand(images, texts, positives.numpy(), 5.0)
    )
    found = contrastive_loss(*args, torch.tensor(-3.0)).item()
    assert found == pytest.approx(loss_by_hand(images, texts, positives.numpy(), 5.0, bias=-3.0))
    alone = torch.eye(5, dtype=torch.bool)
    cosine = torch.tensor(loss_by_hand(images, texts, alone.numpy(), 5.0))
    clip = open_clip.ClipLoss()
    unit = [torch.nn.functional.normalize(torch.tensor(x), dim=-1) for x in (images, texts)]
    assert clip(*unit, 5.0).item() == pytest.approx(cosine.item())
    assert contrastive_loss(args[0], args[1], alone, 5.0).item() == pytest.approx(cosine.item())


def test_identities_are_the_same_everywhere():
    assert identity("a dog") == 7182415866560184703  # pinned: a resumed or distributed run relies on it
    assert len({identity(f"text {i}") for i in range(10_000)}) == 10_000


def test_the_logit_scale_stays_at_100_or_less(folder):
    adapter = ContrastiveAdapter(load_teacher(str(folder)))
    with torch.no_grad():
        adapter.model.logit_scale.fill_(7.0)
    adapter.clamp_logit_scale()
    assert adapter.model.logit_scale.exp().item() == pytest.approx(100.0)


def test_adaptation_learns_resumes_and_saves_a_folder_that_open_clip_reads(folder, tmp_path):
    teacher = load_teacher(str(folder))
    before = teacher.fingerprint
    straight = adapt_teacher(teacher, pairs(), config(steps=12), run_dir=tmp_path / "a", validation=pairs(1))
    rows = read_log(tmp_path / "a" / "log.jsonl")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"recall_at_1", "recall_at_1_texts"} <= rows[-1]["metrics"].keys()
    assert load_teacher(str(folder)).fingerprint == before == teacher.fingerprint  # the teacher is untouched
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert straight.fingerprint != before

    again = adapt_teacher(teacher, pairs(), config(steps=12), run_dir=tmp_path / "a", validation=pairs(1))
    assert again.fingerprint == straight.fingerprint  # nothing left to do, the same weights

    saved = save_open_clip(straight, tmp_path / "saved")
    loaded = load_teacher(str(saved))
    assert loaded.fingerprint == straight.fingerprint
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{saved}")
    tokens = open_clip.get_tokenizer(f"local-dir:{saved}")(["a dog"])
    with torch.no_grad():
        text = model.eval().encode_text(tokens, normalize=True)
        image = model.encode_image(transform(tiny_image(0))[None], normalize=True)
    assert torch.equal(loaded.encode_texts(["a dog"]), text)
    assert torch.equal(loaded.encode_images([tiny_image(0)]), image)


def test_a_bare_model_is_saved_with_its_config_and_tokenizer(folder, tmp_path):
    teacher = load_teacher(str(folder))
    config = json.loads((folder / "open_clip_config.json").read_text())
    tokenizer = teacher.tokenizer.tokenizer  # the transformers tokenizer itself
    saved = save_open_clip(teacher.model, tmp_path / "bare", config=config, tokenizer=tokenizer)
    assert load_teacher(str(saved)).fingerprint == teacher.fingerprint
    with pytest.raises(ValueError, match="needs config="):
        save_open_clip(teacher.model, tmp_path / "no")
    with pytest.raises(ValueError, match="names the tokenizer 'tiny', but NoneType cannot save its files"):
        save_open_clip(teacher.model, tmp_path / "no", config=config)


def test_a_siglip_like_teacher_keeps_its_sigmoid_loss(tmp_path):
    teacher = load_teacher(str(tiny_open_clip_folder(tmp_path / "siglip", init_logit_bias=-5.0)))
    adapted = adapt_teacher(teacher, pairs(), config(steps=2), run_dir=tmp_path / "run")
    assert adapted.is_sigmoid
    assert adapted.logit_bias != -5.0


def test_refusals(folder, tmp_path):
    teacher = load_teacher(str(folder))
    with pytest.raises(
        ValueError, match=r"compares every image with every text of the batch.*micro_batch_size"
    ):
        adapt_teacher(teacher, pairs(), config(micro_batch_size=2), run_dir=tmp_path)
    with pytest.raises(ValueError, match="pairs is empty, expected image–text pairs"):
        adapt_teacher(teacher, [], config(), run_dir=tmp_path)
    with pytest.raises(TypeError, match="is a TransformersTeacher, expected an open_clip teacher"):
        adapt_teacher(
            load_teacher(f"hf:{tiny_hf_folder(tmp_path / 'hf')}"), pairs(), config(), run_dir=tmp_path
        )
    broken = [Pair("image-9", "not an image", "a dog")] * 8
    with pytest.raises(ImageError, match="image image-9 cannot be read"):
        adapt_teacher(teacher, broken, config(), run_dir=tmp_path / "broken")
    assert adaptation_defaults().metric == "recall_at_1"


RANK = """
import sys, torch, torch.distributed as dist
sys.path.insert(0, {tests!r})
from tests.teachers.test_adaptation import batch_of, pairs
from cliptd.teachers.adaptation import ContrastiveAdapter
from cliptd.teachers import load_teacher
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{root}/rendezvous", rank=rank, world_size=2)
teacher = load_teacher({folder!r})
adapter = torch.nn.parallel.DistributedDataParallel(ContrastiveAdapter(teacher))
loss = adapter(**batch_of(teacher, pairs(2)[rank * 4 : rank * 4 + 4]))["loss"]
loss.backward()
if rank == 0:
    gradient = torch.cat([p.grad.flatten() for p in adapter.parameters()])
    torch.save({{"loss": loss.detach(), "gradient": gradient}}, "{root}/result.pt")
dist.barrier()  # else gloo's threads of one rank may find the other gone
dist.destroy_process_group()
"""


def batch_of(teacher, some):
    from cliptd.teachers.adaptation import PairCollator

    return PairCollator(teacher)(some)


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradient_of_one(folder, tmp_path):
    teacher = load_teacher(str(folder))
    adapter = ContrastiveAdapter(teacher)
    loss = adapter(**batch_of(teacher, pairs(2)))["loss"]
    loss.backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in adapter.parameters()])
    code = RANK.format(tests=str(REPOSITORY), root=tmp_path, folder=str(folder))
    ranks = [subprocess.Popen([sys.executable, "-c", code, str(rank)], env=os.environ) for rank in range(2)]
    assert [process.wait(240) for process in ranks] == [0, 0]
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    torch.testing.assert_close(result["loss"], loss.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(result["gradient"], expected, atol=1e-5, rtol=1e-3)
