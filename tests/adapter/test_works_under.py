"""The adapter under mixed precision, torch.compile, gradient checkpointing, peft and transformers.Trainer."""

import copy

import pytest
import torch
import transformers as tf
from torch import nn
from torch.utils.checkpoint import checkpoint

import cliptd
from cliptd.adapter.student_states import StudentStates
from cliptd.targeted.config import TargetedDistillationConfig
from tests.helpers.tiny_students import CLASSES, TwoTower, tiny_batch, tiny_choices, tiny_columns, tiny_head

PATHS = StudentStates(text="text", image="vision")
LABELS = torch.tensor([0, 1, 2, 0])


def wrap(student, states=None, **settings):
    torch.manual_seed(11)
    return cliptd.wrap(
        student, embed_dim=8, states=states, config=TargetedDistillationConfig(**settings)
    ).train()


def choices_inputs(name, batch=3):
    labels = torch.tensor([0, 1, 1])[:batch]
    return {**tiny_batch(name, batch, 2), **tiny_columns(batch, 2), "labels": labels}


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def gradients(model):
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def assert_same_gradients(one, two, rtol=1e-5, atol=1e-6):
    assert one.keys() == two.keys()
    assert any(name.startswith("student.") for name in one)
    assert any(name.startswith("objective.") for name in one)
    for name, value in one.items():
        torch.testing.assert_close(
            value, two[name], rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", ["visual_bert", "bridgetower"])
def test_bf16_autocast(name):
    model = without_dropout(wrap(tiny_choices(name)))
    inputs = choices_inputs(name)
    model(**inputs)
    exact = {key: float(value) for key, value in model.last_terms.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**inputs)
    assert output.logits.dtype == torch.bfloat16
    assert model.last_terms["distillation"].dtype == torch.float32
    for key in ("image", "words", "text"):
        assert float(model.last_terms[key]) == pytest.approx(exact[key], rel=0.05, abs=0.02)
    output.loss.backward()
    assert all(torch.isfinite(value).all() for value in gradients(model).values())
    assert all(head.weight.grad.dtype == torch.float32 for head in model.objective.heads.values())


def test_a_student_in_bfloat16():
    student = tiny_choices("visual_bert").bfloat16()
    model = wrap(student)
    inputs = choices_inputs("visual_bert")
    inputs["visual_embeds"] = inputs["visual_embeds"].bfloat16()
    output = model(**inputs)
    assert output.loss.dtype == torch.bfloat16
    output.loss.backward()
    assert model.objective.heads["text"].weight.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("two_tower", "eager"),
        ("two_tower", "aot_eager"),
        ("visual_bert", "eager"),
        pytest.param("visual_bert", "aot_eager", marks=pytest.mark.slow),
    ],
)
def test_torch_compile(name, backend):
    torch._dynamo.reset()
    if name == "two_tower":
        model = wrap(TwoTower(), PATHS)
        inputs = {**tiny_batch(name), **tiny_columns(), "labels": LABELS}
    else:
        model = without_dropout(wrap(tiny_choices(name)))
        inputs = choices_inputs(name)
    own_loss = lambda output: output["loss"]  # noqa: E731
    twin = copy.deepcopy(model)
    own_loss(twin(**inputs)).backward()
    compiled = torch.compile(model, backend=backend)
    for _ in range(2):  # the second call runs what the first one compiled
        model.zero_grad()
        output = compiled(**inputs)
        own_loss(output).backward()
        torch.testing.assert_close(model.last_terms["distillation"], twin.last_terms["distillation"])
        assert_same_gradients(gradients(model), gradients(twin))
    fresh = {**inputs, **tiny_columns(len(inputs["labels"]), 1 if name == "two_tower" else 2, seed=5)}
    compiled(**fresh)
    twin(**fresh)
    torch.testing.assert_close(model.last_terms["distillation"], twin.last_terms["distillation"])
    torch._dynamo.reset()


def test_a_compiled_student_may_be_wrapped():
    torch._dynamo.reset()
    model = wrap(
        torch.compile(TwoTower(), backend="eager"),
        StudentStates(text="_orig_mod.text", image="_orig_mod.vision"),
    )
    twin = wrap(TwoTower(), PATHS)
    twin.student.load_state_dict(model.student._orig_mod.state_dict())
    inputs = {**tiny_batch("two_tower"), **tiny_columns(), "labels": LABELS}
    torch.testing.assert_close(model(**inputs)["loss"], twin(**inputs)["loss"])
    torch._dynamo.reset()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["vilt", "visual_bert", "flava"])
def test_gradient_checkpointing_of_the_layers(name, reentrant):
    plain = wrap(tiny_choices(name))
    checkpointed = wrap(tiny_choices(name))
    checkpointed.base.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for model in (plain, checkpointed):
        torch.manual_seed(2)
        model(**choices_inputs(name)).loss.backward()
    assert_same_gradients(gradients(checkpointed), gradients(plain))


class Checkpointed(TwoTower):
    """Recomputes the modules that the states come from."""

    reentrant = False

    def forward(self, input_ids, pixel_values, attention_mask=None, labels=None):
        text = checkpoint(lambda ids: self.text(self.embed(ids))[0], input_ids, use_reentrant=self.reentrant)
        image = checkpoint(self.vision, pixel_values, use_reentrant=self.reentrant)
        logits = self.classify(torch.cat([text[:, 0], image.mean((2, 3))], dim=1))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def test_states_inside_checkpointed_modules():
    torch.manual_seed(0)
    plain = wrap(TwoTower(), PATHS)
    model = wrap(Checkpointed(), PATHS)
    model.load_state_dict(plain.state_dict())
    inputs = {**tiny_batch("two_tower"), **tiny_columns(), "labels": LABELS}
    for one in (plain, model):
        one(**inputs)["loss"].backward()
    assert_same_gradients(gradients(model), gradients(plain))
    with pytest.raises(ValueError, match="no states are captured"):  # the recomputation is no forward
        model.distillation_loss(inputs)
    model.student.reentrant = True
    with pytest.raises(ValueError, match="re-entrant gradient checkpointing"):
        model(**inputs)


def test_peft_lora_student(tmp_path):
    peft = pytest.importorskip("peft")
    settings = peft.LoraConfig(r=2, target_modules=["query", "value"], modules_to_save=["cls"])
    student = peft.get_peft_model(tiny_head("visual_bert"), settings)
    model = wrap(student)
    inputs = {**tiny_batch("visual_bert", 4, 3), **tiny_columns(4, 3), "labels": LABELS}
    output = model(**inputs)
    output.loss.backward()
    torch.testing.assert_close(output.loss, model.last_terms["task"] + model.last_terms["distillation"])
    trained = {
        name
        for name, value in student.named_parameters()
        if value.grad is not None and value.grad.abs().sum() > 0
    }
    assert any("lora_B" in name for name in trained)
    assert all("lora" in name or "modules_to_save" in name for name in trained)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.unwrap() is student
    student.eval().save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny_head("visual_bert"), tmp_path).eval()
    batch = tiny_batch("visual_bert", 4, 3)
    assert torch.equal(loaded(**batch).logits, student(**batch).logits)


class Examples(torch.utils.data.Dataset):
    """Eight examples of three candidates, as plain dicts."""

    def __init__(self):
        self.batch = {**tiny_batch("visual_bert", 8, 3), **tiny_columns(8, 3)}
        self.batch["labels"] = torch.arange(8) % CLASSES

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return {key: value[index] for key, value in self.batch.items()}


def test_transformers_trainer_as_it_is(tmp_path):
    model = wrap(tiny_head("visual_bert"))
    before = copy.deepcopy(model.state_dict())
    arguments = tf.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        remove_unused_columns=False,
        save_strategy="no",
        report_to=[],
        logging_steps=1,
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-2,
    )
    trainer = tf.Trainer(model, arguments, train_dataset=Examples(), eval_dataset=Examples())
    trainer.train()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("student.") for name in changed)
    assert any(name.startswith("objective.") for name in changed)
    assert len([row for row in trainer.state.log_history if "loss" in row]) == 2
    metrics = trainer.evaluate()
    bare = tiny_head("visual_bert")
    bare.load_state_dict(model.student.state_dict())
    examples = Examples()
    plain = {key: value for key, value in examples.batch.items() if not key.startswith("teacher_")}
    assert metrics["eval_loss"] == pytest.approx(bare(**plain).loss.item(), rel=1e-5)
    assert trainer.predict(Examples()).predictions.shape == (8, 3)
    trainer.save_model(str(tmp_path / "saved"))
    model.unwrap().save_pretrained(tmp_path / "student")
    tf.VisualBertForMultipleChoice.from_pretrained(tmp_path / "student")
