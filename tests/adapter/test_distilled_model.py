"""The adapter: same outputs, hooks in and out, total loss, saved student."""

import collections
import copy
import dataclasses

import pytest
import torch
import transformers as tf
from torch import nn

import cliptd
from cliptd.adapter.student_outputs import find_logits, own_loss, student_probability, with_loss
from cliptd.adapter.student_states import StudentStates
from cliptd.targeted.config import TargetedDistillationConfig
from tests.helpers.tiny_students import (
    TINY,
    TwoTower,
    tiny_batch,
    tiny_choices,
    tiny_columns,
    tiny_head,
    tiny_labels,
)

PATHS = StudentStates(text="text", image="vision")
CONSTANT = TargetedDistillationConfig(confidence="constant")
HEADS = [name for name in TINY if TINY[name].head]


def wrap(student, config=CONSTANT, **options):
    torch.manual_seed(11)
    return cliptd.wrap(student, embed_dim=8, config=config, **options)


def head_batch(name):
    """A batch for transformers' own task head, its labels and its number of candidates."""
    candidates = 3 if name == "visual_bert" else None
    return tiny_batch(name, candidates=candidates), tiny_labels(name), candidates or 1


def tensors(output):
    """Every tensor of an output but its loss, by name, nested tuples flattened."""
    found = {}

    def visit(name, value):
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                visit(f"{name}.{i}", item)

    for name, value in output.items():
        if name != "loss":
            visit(name, value)
    return found


def assert_same_outputs(one, two):
    one, two = tensors(one), tensors(two)
    assert one.keys() == two.keys()
    assert one
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


def hooks_and_attributes(module):
    """What a module carries besides weights: the keys of __dict__ and every hook, for each submodule."""
    state = {}
    for path, child in module.named_modules():
        hooks = {
            key: len(value)
            for key, value in vars(child).items()
            if "hook" in key and hasattr(value, "__len__")
        }
        state[path] = (sorted(vars(child)), hooks)
    return state


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_wrapped_forward_is_the_bare_forward(name, training):
    bare = tiny_head(name)
    wrapped = wrap(tiny_head(name))
    batch, labels, candidates = head_batch(name)
    bare.train(training)
    wrapped.train(training)
    torch.manual_seed(3)
    expected = bare(**batch, labels=labels)
    torch.manual_seed(3)
    output = wrapped(**batch, labels=labels, **tiny_columns(candidates=candidates))
    assert type(output) is type(expected)
    assert_same_outputs(output, expected)
    distillation = wrapped.last_terms.get("distillation")
    if training:
        assert torch.equal(wrapped.last_terms["task"], expected.loss)
        torch.testing.assert_close(output.loss, expected.loss + distillation)
        assert distillation > 0
    else:
        assert torch.equal(output.loss, expected.loss)
        assert distillation is None


@pytest.mark.parametrize("name", TINY)
def test_every_preset_distils_candidates_into_the_student(name):
    model = wrap(tiny_choices(name), TargetedDistillationConfig()).train()
    batch = tiny_batch(name, batch=3, candidates=2)
    output = model(**batch, labels=torch.tensor([0, 1, 1]), **tiny_columns(3, 2))
    assert output.logits.shape == (3, 2)
    task = nn.functional.cross_entropy(output.logits, torch.tensor([0, 1, 1]))
    terms = model.last_terms
    torch.testing.assert_close(terms["distillation"], terms["image"] + terms["words"] + terms["text"])
    torch.testing.assert_close(output.loss, task + terms["distillation"])
    (output.loss - task).backward()
    gradients = [parameter.grad for parameter in model.student.parameters() if parameter.grad is not None]
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.objective.parameters())


@pytest.mark.parametrize("name", [*TINY, "two_tower"])
def test_unwrap_leaves_no_trace(name):
    student = TwoTower() if name == "two_tower" else tiny_choices(name)
    before = hooks_and_attributes(student)
    keys = list(student.state_dict())
    model = wrap(student, states=PATHS if name == "two_tower" else None)
    assert hooks_and_attributes(student) != before
    assert list(student.state_dict()) == keys
    model.train()
    candidates = None if name == "two_tower" else 2
    batch = tiny_batch(name, candidates=candidates)
    model(**batch, labels=torch.tensor([0, 1, 1, 0]), **tiny_columns(candidates=candidates or 1))
    assert model.unwrap() is student
    assert hooks_and_attributes(student) == before


def test_weights_of_zero_hook_nothing():
    student = TwoTower()  # has no preset, which does not matter
    before = hooks_and_attributes(student)
    model = wrap(student, TargetedDistillationConfig.for_method("none")).train()
    assert hooks_and_attributes(student) == before
    assert not list(model.objective.parameters())
    labels = torch.tensor([0, 1, 2, 0])
    output = model(**tiny_batch("two_tower"), labels=labels, **tiny_columns())
    torch.testing.assert_close(output["loss"], nn.functional.cross_entropy(output["logits"], labels))
    assert model.distillation_loss(tiny_columns()) == 0
    assert not model.couples_batch


def test_the_caller_may_run_the_student_itself():
    labels, batch, columns = torch.tensor([0, 1, 2, 0]), tiny_batch("two_tower"), tiny_columns()
    config = TargetedDistillationConfig()
    model = wrap(TwoTower(), config, states=PATHS).train()
    expected = model(**batch, labels=labels, **columns)["loss"]
    output = model.student(**batch)
    loss = nn.functional.cross_entropy(output["logits"], labels)
    loss = loss + model.distillation_loss({**batch, **columns}, labels=labels, logits=output["logits"])
    torch.testing.assert_close(loss, expected)


def test_one_term_against_the_formula():
    """Image term alone, cosine, against float64 arithmetic on the student's own feature map."""
    config = TargetedDistillationConfig(word_weight=0, text_weight=0, image_weight=0.5, confidence="constant")
    model = wrap(TwoTower(), config, states=PATHS).train()
    batch, columns = tiny_batch("two_tower"), tiny_columns()
    output = model(**batch, labels=torch.tensor([0, 1, 2, 0]), **columns)
    state = model.student.vision(batch["pixel_values"]).double().mean((2, 3))
    head = model.objective.heads["image"]
    projected = state @ head.weight.double().T + head.bias.double()
    cosine = nn.functional.cosine_similarity(projected, columns["teacher_image_embeds"].double())
    task = nn.functional.cross_entropy(output["logits"].double(), torch.tensor([0, 1, 2, 0]))
    torch.testing.assert_close(
        output["loss"].double(), task + 0.5 * (1 - cosine).mean(), rtol=1e-5, atol=1e-6
    )


def test_text_only_states():
    states = StudentStates(text="text")
    with pytest.raises(ValueError, match=r"image_weight is 1.0, but StudentStates names no image states"):
        wrap(TwoTower(), states=states)
    model = wrap(
        TwoTower(), TargetedDistillationConfig(image_weight=0, confidence="constant"), states=states
    ).train()
    output = model(**tiny_batch("two_tower"), labels=torch.tensor([0, 1, 2, 0]), **tiny_columns())
    assert output["loss"] > model.last_terms["task"]


def test_batches_without_columns_train_plainly_and_warn_once():
    model = wrap(TwoTower(), states=PATHS).train()
    labels = torch.tensor([0, 1, 2, 0])
    with pytest.warns(UserWarning, match="without teacher_ columns"):
        output = model(**tiny_batch("two_tower"), labels=labels)
    torch.testing.assert_close(output["loss"], nn.functional.cross_entropy(output["logits"], labels))
    with pytest.raises(ValueError, match="no states are captured"):
        model.distillation_loss(tiny_columns())


def test_teacher_columns_in_eval_mode_are_said_to_do_nothing_unless_it_is_an_evaluation(recwarn):
    model, labels = wrap(TwoTower(), states=PATHS).eval(), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        model(**tiny_batch("two_tower"), labels=labels, **tiny_columns())
    assert not recwarn
    with pytest.warns(UserWarning, match="teacher_ columns in eval mode, .* call train\\(\\) to distil"):
        model(**tiny_batch("two_tower"), labels=labels, **tiny_columns())


def test_teacher_is_not_kept():
    class FakeTeacher(nn.Module):
        embed_dim, logit_scale, logit_bias = 8, 50.0, -3.0

    model = cliptd.wrap(TwoTower(), FakeTeacher(), states=PATHS)
    assert not any(isinstance(module, FakeTeacher) for module in model.modules())
    assert (model.objective.embed_dim, model.objective.logit_scale, model.objective.logit_bias) == (
        8,
        50.0,
        -3.0,
    )
    assert {key.split(".")[0] for key in model.state_dict()} == {"student", "objective"}
    with pytest.raises(ValueError, match="wrap needs the teacher's width, and teacher is 'ViT-L-14'"):
        cliptd.wrap(TwoTower(), "ViT-L-14", states=PATHS)
    with pytest.raises(ValueError, match="embed_dim is 7, but the teacher's width is 8; leave embed_dim out"):
        cliptd.wrap(TwoTower(), FakeTeacher(), states=PATHS, embed_dim=7)


@pytest.mark.parametrize("name", ["vilt", "visual_bert", "lxmert"])
def test_saved_student_loads_with_transformers_alone(name, tmp_path):
    model = wrap(tiny_head(name)).train()
    batch, labels, candidates = head_batch(name)
    model(**batch, labels=labels, **tiny_columns(candidates=candidates)).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.eval().save_pretrained(tmp_path)
    loaded = TINY[name].head.from_pretrained(tmp_path).eval()
    assert loaded.state_dict().keys() == model.student.state_dict().keys()
    torch.manual_seed(5)
    expected = model(**batch)
    torch.manual_seed(5)
    assert_same_outputs(loaded(**batch), expected)


def test_student_attributes_are_reachable():
    model = wrap(tiny_head("vilt"))
    assert model.config is model.student.config
    assert model.dtype == torch.float32
    with pytest.raises(AttributeError, match=r"ViltForQuestionAnswering.*has no attribute 'nonsense'"):
        _ = model.nonsense


def test_a_deep_copy_is_independent():
    model = wrap(TwoTower(), states=PATHS).train()
    twin = copy.deepcopy(model)
    batch, columns, labels = tiny_batch("two_tower"), tiny_columns(), torch.tensor([0, 1, 2, 0])
    expected = model(**batch, labels=labels, **columns)["loss"]
    torch.testing.assert_close(twin(**batch, labels=labels, **columns)["loss"], expected)
    student = twin.unwrap()
    assert not any(module._forward_hooks for module in student.modules())
    assert any(module._forward_hooks for module in model.student.modules())


def test_couples_batch_is_told():
    model = wrap(
        TwoTower(), TargetedDistillationConfig(distance="infonce", confidence="constant"), states=PATHS
    )
    assert model.couples_batch
    assert "infonce" in model.couples_batch_why
    assert not wrap(TwoTower(), CONSTANT, states=PATHS).couples_batch


class Returns(nn.Module):
    """A student that packs its loss and logits as told."""

    def __init__(self, pack):
        super().__init__()
        self.inner, self.pack = TwoTower(), pack

    def forward(self, **batch):
        output = self.inner(**batch)
        return self.pack(output["loss"], output["logits"])


@dataclasses.dataclass(frozen=True)
class Frozen:
    loss: torch.Tensor
    logits: torch.Tensor


Named = collections.namedtuple("Named", ["logits", "loss"])

PACKS = {
    "dict": lambda loss, logits: {"loss": loss, "logits": logits},
    "tuple": lambda loss, logits: (loss, logits),
    "named tuple": lambda loss, logits: Named(logits, loss),
    "object": Frozen,
    "ModelOutput": lambda loss, logits: tf.modeling_outputs.SequenceClassifierOutput(
        loss=loss, logits=logits
    ),
    "scalar": lambda loss, logits: loss,
}


@pytest.mark.parametrize("kind", PACKS)
def test_every_kind_of_output(kind):
    states = StudentStates(text="inner.text", image="inner.vision")
    model = wrap(Returns(PACKS[kind]), states=states).train()
    batch, labels = tiny_batch("two_tower"), torch.tensor([0, 1, 2, 0])
    output = model(**batch, labels=labels, **tiny_columns())
    expected = model.student.inner(**batch, labels=labels)
    assert type(output) is type(PACKS[kind](expected["loss"], expected["logits"]))
    torch.testing.assert_close(own_loss(output), expected["loss"] + model.last_terms["distillation"])
    if kind != "scalar":
        torch.testing.assert_close(find_logits(output), expected["logits"])


def test_the_output_of_the_student_is_not_changed_where_it_may_be_shared():
    shared = Frozen(torch.tensor(1.0), torch.zeros(2, 2))
    assert with_loss(shared, torch.tensor(5.0)).loss == 5
    assert shared.loss == 1


def test_missing_labels_are_named():
    model = wrap(TwoTower(), states=PATHS).train()
    with pytest.raises(ValueError, match=r"\(dict\) has no loss: the batch has no labels; add labels="):
        model(**tiny_batch("two_tower"), **tiny_columns())
    with pytest.raises(ValueError, match="labels were given, but it computes no loss"):
        own_loss((torch.zeros(3, 2),), labels=torch.zeros(3))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (tiny_columns(3), r"4 texts of 7 tokens, but teacher_word_ids is \(3, 1, 7\)"),
        (tiny_columns(4, tokens=6), r"4 texts of 7 tokens, but teacher_word_ids is \(4, 1, 6\)"),
        (tiny_columns(4, 2), r"4 texts of 7 tokens, but teacher_word_ids is \(4, 2, 7\)"),
        (tiny_columns(width=6), "width 8"),
        ({"teacher_match": torch.zeros(4, 1)}, "teacher_image_embeds"),
        ({"input_ids": torch.zeros(4, 7)}, "no column that starts with 'teacher_'"),
    ],
)
def test_columns_of_another_batch_are_refused(columns, message):
    model = wrap(TwoTower(), states=PATHS).train()
    model.student(**tiny_batch("two_tower"))
    with pytest.raises(ValueError, match=message):
        model.distillation_loss(columns)


def test_states_without_gradient_are_refused():
    model = wrap(TwoTower().requires_grad_(False), states=PATHS).train()
    with pytest.raises(ValueError, match="the captured states carry no gradient"):
        model(**tiny_batch("two_tower"), labels=torch.tensor([0, 1, 2, 0]), **tiny_columns())


def test_student_probability():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]], requires_grad=True)
    p = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]).double().exp()
    p = (p / p.sum(1, keepdim=True)).float()
    hard = student_probability(logits, torch.tensor([1, 2]))
    torch.testing.assert_close(hard, torch.stack([p[0, 1], p[1, 2]]))
    assert not hard.requires_grad
    torch.testing.assert_close(
        student_probability(logits, torch.tensor([-100, 0])), torch.stack([torch.tensor(1 / 3), p[1, 0]])
    )
    soft = torch.tensor([[0.3, 1.0, 0.0], [0.0, 0.0, 0.6]])
    torch.testing.assert_close(
        student_probability(logits, soft), torch.stack([0.3 * p[0, 0] + p[0, 1], 0.6 * p[1, 2]])
    )
    assert student_probability(logits, None) is None
    assert student_probability(None, torch.tensor([1, 2])) is None
    assert student_probability(logits[:, :1], torch.tensor([0, 0])) is None
    assert student_probability(logits, torch.zeros(2, 5, dtype=torch.long)) is None  # words to generate


def test_confidence_uses_the_students_own_probability():
    model = wrap(TwoTower(), TargetedDistillationConfig(), states=PATHS).train()
    seen = {}
    objective_forward = model.objective.forward

    def spy(*args, **kwargs):
        seen.update(kwargs)
        return objective_forward(*args, **kwargs)

    model.objective.forward = spy
    labels = torch.tensor([0, 1, 2, 0])
    output = model(**tiny_batch("two_tower"), labels=labels, **tiny_columns())
    expected = output["logits"].softmax(1)[torch.arange(4), labels]
    torch.testing.assert_close(seen["student_probability"], expected)
    assert torch.equal(seen["labels"], labels)
    assert seen["gather"] is None
