"""What train does besides stepping: evaluation, best weights, early stop, resuming, refusals."""

import json

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn

from cliptd.training import TrainingConfig, make_accelerator, read_log, train
from tests.helpers.small_run import Classifier, Points, collate, evaluate, run


class Scripted:
    """An evaluation whose results are written down."""

    def __init__(self, *values):
        self.values = list(values)

    def __call__(self, model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"q_to_a": self.values.pop(0), "other": 1}


def train_small(run_dir, evaluate=None, model=None, **settings):
    config = TrainingConfig(
        **{
            "steps": 8,
            "batch_size": 8,
            "lr": 0.02,
            "eval_every": 2,
            "save_every": 3,
            "metric": "q_to_a",
            **settings,
        }
    )
    return train(model or Classifier(), Points(), collate, config, run_dir=run_dir, evaluate=evaluate)


@pytest.fixture
def fresh_precision():
    """Accelerate remembers a process's precision."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


def test_best_weights_come_back(tmp_path):
    model = Classifier()
    model.head.register_forward_hook(lambda *_: None)
    seen = []

    def scripted(model, values=iter([0.1, 0.7, 0.7, 0.2])):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"q_to_a": next(values)}

    result = train_small(tmp_path / "run", scripted, model)
    assert (result.best_step, result.best_metrics, result.steps) == (4, {"q_to_a": 0.7}, 8)
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert not model.training
    assert [row.get("metrics") for row in result.history][1::2] == [
        {"q_to_a": v} for v in (0.1, 0.7, 0.7, 0.2)
    ]


def test_early_stop_and_calling_again(tmp_path):
    result = train_small(tmp_path / "run", Scripted(0.5, 0.4, 0.5), patience=2)
    assert (result.best_step, result.steps, len(result.history)) == (2, 6, 6)
    model = Classifier()
    again = train_small(tmp_path / "run", Scripted(), model, patience=2)
    assert again == result
    best = load_file(tmp_path / "run" / "best-00000002.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())


def test_evaluation_does_not_disturb_training(tmp_path):
    run(tmp_path / "often", dropout=0.3, eval_every=1)
    run(tmp_path / "once", dropout=0.3, eval_every=0)
    often, once = (read_log(tmp_path / name / "log.jsonl") for name in ("often", "once"))
    assert [row["loss"] for row in often] == [row["loss"] for row in once]
    assert [("metrics" in row) for row in once] == [False] * 11 + [True]


def test_workers_change_nothing(tmp_path):
    assert run(tmp_path / "two", num_workers=2).history == run(tmp_path / "none").history


def test_without_evaluation_the_last_weights_stay(tmp_path):
    model = Classifier()
    result = train_small(tmp_path / "run", None, model, save_every=0)
    assert (result.best_step, result.best_metrics) == (0, {})
    last = load_file(tmp_path / "run" / "checkpoints" / "step-00000008" / "model.safetensors")
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())


def test_no_pickle_in_a_run_folder(tmp_path):
    run(tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jsonl", ""}
    assert [path.name for path in files if not path.suffix] == ["COMPLETE"]


def test_another_configuration_is_refused_by_field(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(ValueError, match=r"lr is 0\.02 there, 0\.03 here.*resume='never'"):
        run(tmp_path / "run", lr=0.03)
    assert run(tmp_path / "run", save_every=1).steps == 12  # where checkpoints are changes no result
    fresh = run(tmp_path / "run", lr=0.03, resume="never")
    assert [row["step"] for row in fresh.history] == list(range(1, 13))
    assert fresh.history[-1]["lr"] == pytest.approx(0.03 * 0.0170370868554659)  # (1 + cos(11π/12)) / 2


def test_other_settings_of_the_run_are_compared_too(tmp_path):
    config = TrainingConfig(steps=1, batch_size=4)
    train(
        Classifier(), Points(), collate, config, run_dir=tmp_path, settings={"distillation": {"weight": 1.0}}
    )
    with pytest.raises(ValueError, match=r"settings\.distillation\.weight is 1\.0 there, 2\.0 here"):
        train(
            Classifier(),
            Points(),
            collate,
            config,
            run_dir=tmp_path,
            settings={"distillation": {"weight": 2.0}},
        )
    assert json.loads((tmp_path / "config.json").read_text())["dataset_length"] == 50


def test_parameter_groups_take_over(tmp_path):
    model = Classifier()
    before = model.hidden.weight.detach().clone()
    config = TrainingConfig(steps=3, batch_size=4, schedule="constant", weight_decay=0.0)
    groups = [{"params": model.head.parameters(), "lr": 0.05}]
    result = train(model, Points(), collate, config, run_dir=tmp_path, parameter_groups=groups)
    assert torch.equal(model.hidden.weight, before)
    assert [row["lr"] for row in result.history] == [0.05] * 3
    with pytest.raises(ValueError, match="a parameter that is not one of the model's"):
        train(model, Points(), collate, config, run_dir=tmp_path, parameter_groups=[{"params": [before]}])


def test_nothing_to_train(tmp_path):
    with pytest.raises(ValueError, match="nothing to train"):
        train_small(tmp_path, None, Classifier().requires_grad_(False))


def test_not_a_number_names_step_and_samples(tmp_path):
    class Poisoned(Classifier):
        def forward(self, features, **batch):
            output = super().forward(features, **batch)
            if 13 in batch["indices"].tolist():
                output["loss"] = output["loss"] * float("nan")
            return output

    with pytest.raises(
        FloatingPointError, match=r"loss is nan at step \d+; .*stream positions.*dataset items .*\b13\b"
    ):
        train_small(tmp_path / "loss", None, Poisoned())

    class Steep(Classifier):
        def forward(self, features, **batch):
            loss = super().forward(features, **batch)["loss"]
            return {"loss": loss + (self.head.bias.sum() * 0).sqrt()}  # 0 with an infinite slope

    with pytest.raises(FloatingPointError, match="gradient's norm is nan at step 1;"):
        train_small(tmp_path / "gradient", None, Steep())


def test_coupled_objective_refuses_accumulation(tmp_path):
    model = Classifier()
    model.couples_batch, model.couples_batch_why = True, "InfoNCE compares all pairs of the batch"
    with pytest.raises(ValueError, match=r"accumulation would change the loss: InfoNCE.*from 4 to 8"):
        train_small(tmp_path, None, model, micro_batch_size=4)
    train_small(tmp_path, None, model, steps=1)


def test_output_without_a_loss(tmp_path):
    class Silent(Classifier):
        def forward(self, **batch):
            return {"logits": super().forward(**batch)["logits"]}

    with pytest.raises(ValueError, match=r"output \(dict\) has the loss None, expected a scalar"):
        train_small(tmp_path, None, Silent())


def test_missing_or_undefined_metric(tmp_path):
    with pytest.raises(
        ValueError, match=r"metric is 'accuracy', the evaluation returned \['other', 'q_to_a'\]"
    ):
        train_small(tmp_path / "a", Scripted(0.5), metric="accuracy")
    with pytest.raises(ValueError, match="'q_to_a' is NaN at step 2"):
        train_small(tmp_path / "b", Scripted(float("nan")))


def test_bfloat16_leaves_no_trace(tmp_path, fresh_precision):
    model = Classifier()
    before, names = model.forward, set(vars(model))
    result = run(tmp_path / "run", model=model, mixed_precision="bf16")
    assert model.forward == before
    assert set(vars(model)) == names
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert model.head.weight.dtype == torch.float32
    run(tmp_path / "again", model=Classifier(), mixed_precision="bf16")
    assert read_log(tmp_path / "again" / "log.jsonl") == result.history


def test_float16_needs_a_gpu(tmp_path, fresh_precision):
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        make_accelerator(TrainingConfig(mixed_precision="fp16"), tmp_path)


def test_a_given_accelerator_must_fit(tmp_path, fresh_precision):
    config = TrainingConfig(steps=1, batch_size=4)
    given = {"run_dir": tmp_path, "accelerator": Accelerator(gradient_accumulation_steps=2)}
    with pytest.raises(ValueError, match=r"gradient_accumulation_steps=2.*micro_batch_size"):
        train(Classifier(), Points(), collate, config, **given)
    given["accelerator"] = Accelerator()
    with pytest.raises(ValueError, match="mixed_precision is 'bf16' but the given accelerator has 'no'"):
        train(Classifier(), Points(), collate, TrainingConfig(mixed_precision="bf16"), **given)
    with pytest.raises(ValueError, match="track is 'tensorboard' but the given accelerator has no tracker"):
        train(Classifier(), Points(), collate, TrainingConfig(track="tensorboard"), **given)
    assert train(Classifier(), Points(), collate, config, evaluate=evaluate, **given).steps == 1


def test_trackers(tmp_path, monkeypatch):
    run(tmp_path / "run", track="tensorboard")
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install trackio"):
        run(tmp_path / "none", track="trackio")


def test_progress_lines_when_not_on_a_terminal(tmp_path, capsys):
    run(tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("training step 12/12  loss 0.")
    assert "q_to_a" in lines[-1]


def test_tied_weights_and_frozen_parts_survive_a_checkpoint(tmp_path):
    class Tied(Classifier):
        def __init__(self):
            super().__init__()
            self.again = self.head
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    run(tmp_path / "straight", model=Tied(), save_every=2)
    state = load_file(tmp_path / "straight" / "checkpoints" / "step-00000012" / "model.safetensors")
    assert torch.equal(state["again.weight"], state["head.weight"])
    assert run(tmp_path / "straight", model=Tied(), save_every=2).steps == 12
