"""Distillation and compression of tiny dual encoders: stages, masks, stores, resuming. Each model is ordinary."""

import dataclasses
import json
import math
import typing

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torchvision.transforms import RandomResizedCrop

from cliptd.data.pairs.pair import Pair
from cliptd.embedding.collator import OpenedPairs, StudentTeacherCollator
from cliptd.embedding.compression import compress
from cliptd.embedding.config import Distillation
from cliptd.embedding.distillation import distil
from cliptd.embedding.loss_weights import DimeFm
from cliptd.embedding.student import fresh_like, load_student
from cliptd.teachers import load_teacher
from cliptd.teachers.from_open_clip import WEIGHTS
from cliptd.training import TrainingConfig, loop, make_accelerator
from cliptd.training.sampler import MicroBatches
from tests.helpers.tiny_clip import tiny_image, tiny_open_clip_folder

WORDS = ("dog", "cat", "bird", "tree", "house", "car", "man", "woman")
TRAINING = TrainingConfig(
    steps=4, batch_size=4, lr=1e-3, eval_every=2, save_every=2, metric="seen", num_workers=0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_open_clip_folder(tmp_path_factory.mktemp("teacher"), seed=1)


@pytest.fixture(scope="module")
def teacher(folder):
    return load_teacher(str(folder))


@pytest.fixture
def pairs():
    return [Pair(f"{k}.png", tiny_image(k), f"a photo of a {word}") for k, word in enumerate(WORDS)]


def settings(**changes):
    return Distillation(**{"training": TRAINING, "ramp_steps": 2, **changes})


class Evaluation:
    """Counts its calls, so that the last step is the best, and looks at the student."""

    def __init__(self):
        self.calls = 0

    def __call__(self, student):
        self.calls += 1
        embeds = student.encode_images([tiny_image(0), tiny_image(1)])
        return {"seen": self.calls, "length": embeds.norm(dim=1).mean().item()}


def run(student, teacher, pairs, run_dir, *, shares=None, learned_masks=False, **changes):
    asked = settings(**changes)
    options = {
        "run_dir": run_dir,
        "evaluate": Evaluation(),
        "accelerator": make_accelerator(asked.training, run_dir),
    }
    if shares is None:
        return distil(student, teacher, pairs, asked, **options)
    return compress(student, teacher, pairs, asked, shares, learned_masks=learned_masks, **options)


def losses(run_dir):
    return [json.loads(line)["loss"] for line in (run_dir / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("shares", "learned_masks"), [((1.0, 0.5, 0.125), False), ((1.0, 0.7, 0.4), True)])
def test_stages_shrink_the_model_and_each_leaves_an_ordinary_one(
    shares, learned_masks, folder, teacher, pairs, tmp_path
):
    arguments = (teacher, pairs, tmp_path)
    first = run(load_student(str(folder)), *arguments, shares=shares[:2], learned_masks=learned_masks)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    rows = run(load_student(str(folder)), *arguments, shares=shares, learned_masks=learned_masks)
    assert rows[:2] == first  # finished stages are not run again
    assert all(path.stat().st_mtime_ns == before[path] for path in before)
    counts = [row["parameters"] for row in rows]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == 3
    whole = matrices(load_student(str(folder)).model)
    for share in shares:
        model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}/stage-{share:g}/model")
        assert matrices(model) / whole == pytest.approx(share, abs=0.05)
    if learned_masks:
        log = (tmp_path / f"stage-{shares[-1]:g}" / "masks" / "run" / "log.jsonl").read_text().splitlines()
        metrics = json.loads(log[-1])["metrics"]
        assert {"expected sparsity, image", "real sparsity, text"} <= set(metrics)
        assert "loss_sparsity_price" in json.loads(log[-1])


def matrices(model):
    """Count the parameters of the matrices in the image tower's blocks."""
    return sum(p.numel() for p in model.visual.transformer.parameters() if p.ndim > 1)


def test_a_stored_teacher_teaches_as_the_live_one_does(folder, teacher, pairs, tmp_path):
    config = tmp_path / "small.json"
    small = json.loads((folder / "open_clip_config.json").read_text())
    small["model_cfg"]["embed_dim"] = 8
    config.write_text(json.dumps(small))
    found = {}
    for source in ("live", "store"):
        student = load_student(str(config), teacher=teacher, seed=5)
        mix = {"affinity": 1.0, "feature": 10.0}
        run(student, teacher, pairs, tmp_path / source / "run", source=source, weights=mix)
        found[source] = losses(tmp_path / source / "run")
    assert found["store"] == pytest.approx(found["live"], rel=1e-2)  # the store holds half precision
    assert (tmp_path / "store" / "store" / "index.json").exists()


def test_a_run_that_was_stopped_ends_as_one_that_was_not(folder, teacher, pairs, tmp_path):
    def weights(name, *stops):
        for steps in stops:
            student = load_student(str(folder))
            config = dataclasses.replace(TRAINING, steps=4, save_every=1)
            evaluate = Evaluation()
            if steps < 4:

                def evaluate(_, steps=steps):
                    raise KeyboardInterrupt if steps else None

            try:
                asked = settings(training=config)
                accelerator = make_accelerator(config, tmp_path / name)
                distil(
                    student, teacher, pairs, asked,
                    run_dir=tmp_path / name, evaluate=evaluate, accelerator=accelerator,
                )  # fmt: skip
            except KeyboardInterrupt:
                pass
        return student.model.state_dict()

    stopped, whole = weights("stopped", 2, 4), weights("whole", 4)
    for name, value in whole.items():
        assert torch.equal(value, stopped[name]), name
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_a_student_is_read_from_whatever_names_it(folder, teacher, tmp_path):
    same = load_student(str(folder))
    images = [tiny_image(0), tiny_image(1, mode="L")]
    torch.testing.assert_close(same.encode_images(images), teacher.encode_images(images))
    torch.testing.assert_close(same.encode_texts(["a dog"]), teacher.encode_texts(["a dog"]))
    (tmp_path / "bare").mkdir()
    for name in ("open_clip_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).write_bytes((folder / name).read_bytes())
    fresh, again, other = (load_student(str(tmp_path / "bare"), seed=seed) for seed in (0, 0, 1))
    weight = "visual.conv1.weight"
    assert torch.equal(fresh.model.state_dict()[weight], again.model.state_dict()[weight])
    assert not torch.equal(fresh.model.state_dict()[weight], other.model.state_dict()[weight])
    config = tmp_path / "small.json"
    config.write_text(json.dumps(teacher.config["model_cfg"]))
    assert load_student(str(config), teacher=teacher).tokenize(["a dog"]).equal(teacher.tokenize(["a dog"]))
    saved = same.save(tmp_path / "saved")
    assert load_teacher(str(saved)).fingerprint == teacher.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-23", "open_clip has no model named 'ViT-B-23'; nearest: "),
        ("nothing.json", r"student config nothing\.json does not exist"),
        ("{tmp}/empty", r"student folder .*empty has no open_clip_config\.json"),
        ("{tmp}/list.json", r"list\.json has a; expected model_cfg"),
        ("{tmp}/broken.json", r"broken\.json is no JSON"),
        (
            "{tmp}/other.json",
            "its vocabulary has 7 tokens, but the teacher's has another number and open_clip's own has 49408",
        ),
    ],
)
def test_a_student_that_cannot_be_is_said(name, message, teacher, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text('{"a": 1}')
    (tmp_path / "broken.json").write_text("{")
    other = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"vocab_size": 7}}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_student(name.format(tmp=tmp_path), teacher=teacher)


def test_settings_that_cannot_be_are_refused(folder, teacher, pairs, tmp_path):
    student = load_student(str(folder))
    for unused, others in (
        ({"crops": 3}, {}),
        ({"dime_fm": DimeFm(vl_weight=0)}, {}),
        ({"distill_weight": 0.5}, {}),
        ({"store": tmp_path}, {}),
        ({"source": "store"}, {"objective": "contrastive"}),
        ({"affinity_scale": None}, {"objective": "feature"}),
        ({"objective": "feature"}, {"weights": {"affinity": 1.0}}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(unused))} has no effect here"):
            settings(**unused, **others)
    with pytest.raises(ValueError, match="freeze names both towers"):
        settings(freeze=("image", "text"))
    with pytest.raises(ValueError, match="affinity_scale is 0, expected a number above 0"):
        settings(affinity_scale=0)
    for crop in ((50.0, 100.0), (1.0, 0.5), (0.0, 1.0)):
        with pytest.raises(ValueError, match=r"crop is .*, expected two shares of an image"):
            settings(crop=crop)
    with pytest.raises(ValueError, match="weights names 'affinities'; expected some of affinity, feature"):
        settings(weights={"affinities": 1.0})
    with pytest.raises(ValueError, match=r"shares are \(0\.5, 0\.75\); expected descending ones"):
        run(student, teacher, pairs, tmp_path, shares=(0.5, 0.75))
    training = dataclasses.replace(TRAINING, micro_batch_size=2)
    with pytest.raises(
        ValueError, match="gradient accumulation would change the loss: the losses compare every image"
    ):
        run(student, teacher, pairs, tmp_path, training=training)
    with pytest.raises(ValueError, match="a tower that shrinks must be trained; name other towers"):
        run(student, teacher, pairs, tmp_path, shares=(0.5,), freeze=("text",))
    with pytest.raises(ValueError, match="ramp_steps is 4 of 4 training steps"):
        run(student, teacher, pairs, tmp_path, shares=(0.5,), learned_masks=True, ramp_steps=4)


def test_stages_of_other_settings_are_refused(folder, teacher, pairs, tmp_path):
    arguments = (teacher, pairs, tmp_path)
    run(load_student(str(folder)), *arguments, shares=(1.0, 0.5))
    with pytest.raises(ValueError, match=r"holds stage-1, stage-0\.5, and shares are \(0\.5,\)"):
        run(load_student(str(folder)), *arguments, shares=(0.5,))
    other = dataclasses.replace(TRAINING, lr=1e-2)
    with pytest.raises(ValueError, match=r"holds a run with other settings \(.*lr is"):
        run(load_student(str(folder)), *arguments, shares=(1.0, 0.5), training=other)
    never = dataclasses.replace(TRAINING, lr=1e-2, resume="never")
    assert len(run(load_student(str(folder)), *arguments, shares=(0.5,), training=never)) == 1
    assert not (tmp_path / "stage-1").exists()


def test_a_share_of_many_digits_is_found_again(folder, teacher, pairs, tmp_path):
    rows = [run(load_student(str(folder)), teacher, pairs, tmp_path, shares=(2 / 3,)) for _ in range(2)]
    assert rows[0] == rows[1]
    with pytest.raises(ValueError, match="two are alike to six digits"):
        run(load_student(str(folder)), teacher, pairs, tmp_path / "other", shares=(0.50000001, 0.5))


@pytest.mark.parametrize("stage", ["masks", "saving", "afterwards"])
def test_stages_with_masks_that_were_killed_end_as_those_that_were_not(
    stage, folder, teacher, pairs, tmp_path, monkeypatch
):
    training = dataclasses.replace(TRAINING, save_every=1)
    options = {"shares": (0.6,), "learned_masks": True, "training": training, "mask_lr": 2.0}
    run(load_student(str(folder)), teacher, pairs, tmp_path / "whole", **options)
    kills = Killed(3 if stage == "masks" else 7)
    with monkeypatch.context() as patch:
        if stage == "saving":
            kills.calls = kills.last
            patch.setattr("cliptd.teachers.from_open_clip.save_tensors", kills)
        else:
            patch.setattr("cliptd.training.loop.save_checkpoint", kills.after(loop.save_checkpoint))
        with pytest.raises(KeyboardInterrupt):
            run(load_student(str(folder)), teacher, pairs, tmp_path / "killed", **options)
    run(load_student(str(folder)), teacher, pairs, tmp_path / "killed", **options)
    for model in ("masks/pruned", "model"):
        weights = [load_file(tmp_path / name / "stage-0.6" / model / WEIGHTS) for name in ("whole", "killed")]
        assert weights[0].keys() == weights[1].keys()
        for name, value in weights[0].items():
            assert torch.equal(value, weights[1][name]), (model, name)


class Killed:
    """Raises at a call after so many."""

    def __init__(self, last):
        self.calls, self.last = 0, last

    def __call__(self, *_, **__):
        self.calls += 1
        if self.calls > self.last:
            raise KeyboardInterrupt

    def after(self, function):
        def called(*arguments, **options):
            function(*arguments, **options)
            self()

        return called


def test_a_frozen_tower_stays_though_the_other_is_masked(folder, teacher, pairs, tmp_path):
    student = load_student(str(folder))
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    training = dataclasses.replace(TRAINING, lr=1e-2)
    run(
        student, teacher, pairs, tmp_path, shares=(0.6,), learned_masks=True,
        towers=("image",), freeze=("text",), training=training,
    )  # fmt: skip
    after = load_file(tmp_path / "stage-0.6" / "model" / WEIGHTS)
    of_text = [name for name in before if not name.startswith(("visual.", "logit_scale"))]
    assert all(torch.equal(after[name], before[name]) for name in of_text)
    assert after["visual.conv1.weight"].shape != before["visual.conv1.weight"].shape or any(
        after[name].shape != before[name].shape for name in before if name.startswith("visual.")
    )


def test_no_teacher_is_needed_where_no_loss_looks_at_one(folder, teacher, pairs, tmp_path):
    for name, given in (("with", teacher), ("without", None)):
        run(
            load_student(str(folder)), given, pairs, tmp_path / name, objective="contrastive", crop=(0.5, 1.0)
        )
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    with pytest.raises(ValueError, match="the losses compare the student with a teacher, and there is none"):
        run(load_student(str(folder)), None, pairs, tmp_path / "affinity")


@pytest.mark.parametrize(
    ("kind", "learned_masks", "message"),
    [
        (
            "resnet",
            False,
            "a share is possible only for open_clip's own transformers; name a student of your own",
        ),
        ("resnet", True, r"the image tower \(ModifiedResNet\) has no masks to learn"),
        ("vit", True, "sparsity 0.999 leaves 12 parameters a layer, and no tower"),
    ],
)
def test_towers_that_cannot_shrink_are_refused_before_anything_is_trained(
    kind, learned_masks, message, teacher, folder, pairs, tmp_path
):
    student = load_student(str(folder))
    if kind == "resnet":
        config = dict(student.config["model_cfg"])
        config["vision_cfg"] = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "image_size": 32}
        student = fresh_like(student, config)
    shares = (1.0, 0.001) if kind == "vit" else (1.0, 0.5)
    with pytest.raises(ValueError, match=message):
        run(student, teacher, pairs, tmp_path, shares=shares, learned_masks=learned_masks)
    assert not (tmp_path / "stages.json").exists()


def test_a_sigmoid_student_of_a_sigmoid_teacher_has_its_scale_and_bias(pairs, tmp_path):
    one = tiny_open_clip_folder(tmp_path / "teacher", seed=1, init_logit_bias=-7.0)
    other = tiny_open_clip_folder(tmp_path / "student", seed=2, init_logit_bias=-10.0)
    student = load_student(str(other))
    sigmoid = load_teacher(str(one))
    run(student, sigmoid, pairs, tmp_path / "run")
    assert student.model.logit_scale.exp().item() == pytest.approx(sigmoid.logit_scale) != 50.0
    assert student.model.logit_bias.item() == -7.0


def test_bad_samples_are_listed_once_and_left_out(folder, teacher, pairs, tmp_path):
    def corrupt():
        raise ValueError("image x.png is corrupt")

    class Skipping(list):
        skipped: typing.ClassVar = ["shard 0.tar is broken off"]

    with_bad = Skipping([*pairs, Pair("x.png", corrupt, "a dog")])
    training = dataclasses.replace(TRAINING, steps=12)
    run(load_student(str(folder)), teacher, with_bad, tmp_path, on_bad_sample="skip", training=training)
    listed = (tmp_path / "bad_samples.txt").read_text()
    assert listed == "shard 0.tar is broken off\nimage x.png is corrupt\n"
    run(load_student(str(folder)), teacher, with_bad, tmp_path, on_bad_sample="skip", training=training)
    assert (tmp_path / "bad_samples.txt").read_text() == listed  # of a finished run, which reads nothing
    with pytest.raises(ValueError, match=r"image x\.png is corrupt"):
        run(load_student(str(folder)), teacher, with_bad, tmp_path / "raise", training=training)


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({"objective": "affinity"}, 50.0),
        ({"objective": "feature"}, "the teacher's"),
        ({"objective": "clip_kd"}, None),
    ],
)
def test_a_logit_scale_that_no_loss_trains_is_the_one_it_is_trained_at(
    changes, scale, folder, teacher, pairs, tmp_path
):
    student = load_student(str(folder))
    with torch.no_grad():
        student.model.logit_scale.fill_(math.log(7.0))
    run(student, teacher, pairs, tmp_path, **changes)
    found = student.model.logit_scale.exp().item()
    if scale is None:
        assert found == pytest.approx(7.0, rel=0.05)
        assert found != pytest.approx(7.0, rel=1e-6)  # trained
    else:
        assert found == pytest.approx(teacher.logit_scale if isinstance(scale, str) else scale, rel=1e-5)


def test_a_random_crop_is_the_same_for_student_and_teacher_and_another_at_every_position(
    teacher, pairs, tmp_path
):
    darker = load_teacher(str(tiny_open_clip_folder(tmp_path, mean=0.25)))  # reads for itself
    opened = OpenedPairs([pairs[0]] * 2, crop=RandomResizedCrop(32, scale=(0.3, 0.6)))
    columns = MicroBatches(
        opened, StudentTeacherCollator(teacher, teacher=darker), seed=0, micro_batch_size=2, accumulation=1
    )[0]
    # The means are 0.5 and 0.25, the deviation is 0.25.
    torch.testing.assert_close(columns["pixel_values"], columns["teacher_inputs"][0]["pixels"] - 1)
    assert not torch.equal(columns["pixel_values"][0], columns["pixel_values"][1])


def test_each_models_own_scale_is_another_affinity(folder, teacher, pairs, tmp_path):
    run(load_student(str(folder)), teacher, pairs, tmp_path / "fifty")
    run(load_student(str(folder)), teacher, pairs, tmp_path / "own", affinity_scale=None)
    assert losses(tmp_path / "own") != losses(tmp_path / "fifty")
    with pytest.raises(ValueError, match=r"holds a run with other settings \(.*affinity_scale is"):
        run(load_student(str(folder)), teacher, pairs, tmp_path / "own")
