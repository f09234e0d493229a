"""Presets and module paths: the captured states against what each model documents as its output."""

import pytest
import torch
import transformers as tf
from torch import nn

from cliptd.adapter.capture import StateCapture
from cliptd.adapter.presets import PRESETS, masked_mean
from cliptd.adapter.student_states import StudentStates, find_module, output_width
from tests.helpers.tiny_students import (
    TINY,
    TOKENS,
    TwoTower,
    tiny_base,
    tiny_batch,
    tiny_choices,
    tiny_head,
    tiny_labels,
)

PATHS = StudentStates(text="text", image="vision")


def forward(student, name, seed=7, **changes):
    """One forward with the global generator seeded (ViLT draws an order of patches from it)."""
    batch = {**tiny_batch(name), **changes}
    if name == "blip":
        batch["labels"] = tiny_labels("blip")
    torch.manual_seed(seed)
    return student(**batch)


def documented(name, student, output):
    """(text states, image states) by the architecture's own documentation."""
    match name:
        case "vilt":  # text, then image CLS, then patches
            return output.last_hidden_state[:, :TOKENS], output.last_hidden_state[:, TOKENS + 1 :]
        case "visual_bert":
            return output.last_hidden_state[:, :TOKENS], output.last_hidden_state[:, TOKENS:]
        case "lxmert":
            return output.language_output, output.vision_output
        case "bridgetower":
            return output.text_features, output.image_features[:, 1:]
        case "flava":  # multimodal CLS, image CLS, four patches, text
            return output.multimodal_embeddings[:, 6:], output.multimodal_embeddings[:, 2:6]
        case "blip":
            image = output.last_hidden_state
            batch = tiny_batch("blip")
            text = student.text_encoder(
                batch["input_ids"], batch["attention_mask"], encoder_hidden_states=image
            )
            return text.last_hidden_state, image[:, 1:]


@pytest.mark.parametrize("name", TINY)
def test_preset_reads_documented_states(name):
    student = tiny_base(name)
    capture = StateCapture(student)
    assert (capture.text_width, capture.image_width) == (TINY[name].width,) * 2
    output = forward(student, name)
    states = capture.read()
    text, image = documented(name, student, output)
    torch.testing.assert_close(states.text_states, text, rtol=0, atol=0 if name != "blip" else 1e-6)
    torch.testing.assert_close(states.image_states, image, rtol=0, atol=0)
    torch.testing.assert_close(states.text_cls, text[:, 0], rtol=0, atol=0 if name != "blip" else 1e-6)
    batch = tiny_batch(name)
    assert torch.equal(states.text_mask, batch["attention_mask"].bool())
    seen = batch.get("visual_attention_mask", torch.ones(image.shape[:2]))
    for row in range(len(image)):
        expected = image[row][seen[row].bool()].double().mean(0).float()
        torch.testing.assert_close(states.image_state[row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", TINY)
def test_padding_content_does_not_reach_pooled_states(name):
    batch = tiny_batch(name)
    real = batch["attention_mask"]
    changes = {"input_ids": torch.where(real == 1, batch["input_ids"], 5)}
    if name == "lxmert":
        seen = batch["visual_attention_mask"].unsqueeze(-1)
        changes["visual_feats"] = torch.where(seen == 1, batch["visual_feats"], 3.0)
    if name == "visual_bert":
        seen = batch["visual_attention_mask"].unsqueeze(-1)
        changes["visual_embeds"] = torch.where(seen == 1, batch["visual_embeds"], 3.0)
    keep = {}
    if name == "vilt":  # the lower half of two images is padding
        keep["pixel_mask"] = torch.ones(4, 16, 16)
        keep["pixel_mask"][:2, 8:] = 0
        changes["pixel_values"] = batch["pixel_values"].masked_fill(keep["pixel_mask"][:, None] == 0, 3.0)
    assert not torch.equal(changes["input_ids"], batch["input_ids"])
    student = tiny_base(name)
    capture = StateCapture(student, StudentStates(text_cls="mean"))
    forward(student, name, **keep)
    before = capture.read()
    forward(student, name, **keep, **changes)
    after = capture.read()
    torch.testing.assert_close(after.text_cls, before.text_cls, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(after.image_state, before.image_state, rtol=1e-5, atol=1e-6)
    if "visual_attention_mask" in batch:
        assert not torch.allclose(after.image_states, before.image_states)  # what is pooled away did change


def test_vilt_pools_without_order():
    student = tiny_base("vilt")
    capture = StateCapture(student)
    forward(student, "vilt", seed=1)
    one = capture.read()
    forward(student, "vilt", seed=2)
    two = capture.read()
    assert not torch.allclose(
        one.image_states, two.image_states, atol=1e-3
    )  # the patches came in another order
    torch.testing.assert_close(one.image_state, two.image_state, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_candidates_are_rows_b_major(name):
    student = tiny_choices(name)
    batch = tiny_batch(name, batch=2, candidates=3)
    capture = StateCapture(student)
    torch.manual_seed(7)
    student(**batch)
    states = capture.read()
    assert states.text_states.shape == (6, TOKENS, TINY[name].width)
    assert states.image_state.shape == (6, TINY[name].width)
    assert torch.equal(states.text_mask, batch["attention_mask"].flatten(0, 1).bool())
    alone = {key: value[1:, 2:] for key, value in batch.items()}
    torch.manual_seed(7)
    student(**alone)
    torch.testing.assert_close(capture.read().text_cls[0], states.text_cls[5], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in TINY if TINY[name].head])
def test_base_is_found_under_a_task_head(name):
    capture = StateCapture(tiny_head(name))
    assert capture.text_width == TINY[name].width


@pytest.mark.parametrize("name", ["vilt", "visual_bert", "lxmert", "bridgetower", "flava"])
def test_tuple_outputs_are_read_too(name):
    student = tiny_base(name)
    capture = StateCapture(student)
    forward(student, name)
    expected = capture.read()
    output = forward(student, name, return_dict=False)
    assert isinstance(output, tuple)
    states = capture.read()
    assert torch.equal(states.text_states, expected.text_states)
    assert torch.equal(states.image_state, expected.image_state)


def test_positional_arguments_are_named():
    student = tiny_base("lxmert")
    batch = tiny_batch("lxmert")
    capture = StateCapture(student)
    student(
        *(
            batch[key]
            for key in ("input_ids", "visual_feats", "visual_pos", "attention_mask", "visual_attention_mask")
        )
    )
    states = capture.read()
    assert torch.equal(states.text_mask, batch["attention_mask"].bool())
    assert torch.equal(states.image_mask, batch["visual_attention_mask"])


@pytest.mark.parametrize("name", ["vilt", "bridgetower", "flava", "blip"])
def test_preset_image_class_token(name):
    student = tiny_base(name)
    capture = StateCapture(student, StudentStates(image_pooling="cls"))
    output = forward(student, name)
    match name:
        case "vilt":
            expected = output.last_hidden_state[:, TOKENS]
        case "bridgetower":
            expected = output.image_features[:, 0]
        case "flava":
            expected = output.multimodal_embeddings[:, 1]
        case "blip":
            expected = output.last_hidden_state[:, 0]
    assert torch.equal(capture.read().image_state, expected)


def test_region_students_have_no_image_class_token():
    student = tiny_base("lxmert")
    capture = StateCapture(student, StudentStates(image_pooling="cls"))
    forward(student, "lxmert")
    with pytest.raises(ValueError, match="no class token; use 'mean'"):
        capture.read()


def test_flava_without_image_is_refused():
    student = tiny_base("flava")
    capture = StateCapture(student)
    forward(student, "flava", pixel_values=None)
    with pytest.raises(ValueError, match="FLAVA ran without its multimodal encoder"):
        capture.read()


def test_a_forward_without_image_is_refused():
    student = tiny_base("visual_bert")
    capture = StateCapture(student)
    forward(student, "visual_bert", visual_embeds=None, visual_attention_mask=None)
    with pytest.raises(ValueError, match="had no image; pass its image inputs"):
        capture.read()


def test_paths_of_a_plain_module():
    student = TwoTower()
    capture = StateCapture(student, PATHS)
    assert (capture.text_width, capture.image_width) == (20, 12)
    batch = tiny_batch("two_tower")
    student(**batch)
    states = capture.read()
    expected, _ = student.text(student.embed(batch["input_ids"]))
    torch.testing.assert_close(states.text_states, expected)
    torch.testing.assert_close(states.image_state, student.vision(batch["pixel_values"]).mean((2, 3)))
    assert torch.equal(states.text_mask, batch["attention_mask"].bool())


class Fused(nn.Module):
    """Emits given tensors from named modules, to try every accepted shape."""

    def __init__(self, text, image, cls=None):
        super().__init__()
        self.text, self.image, self.cls, self.unused = (
            nn.Identity(),
            nn.Identity(),
            nn.Identity(),
            nn.Identity(),
        )
        self.values = text, image, cls

    def forward(self, attention_mask=None, seen=None):
        self.text(self.values[0])
        self.image(self.values[1])
        self.cls(self.values[2])


WIDTHS = {"text": "text", "image": "image", "text_width": 6, "image_width": 5}


def read(text, image, cls=None, arguments=None, **states):
    student = Fused(text, image, cls)
    capture = StateCapture(student, StudentStates(**{**WIDTHS, **states}))
    student(**(arguments or {}))
    return capture.read()


def test_candidate_states_may_keep_their_own_dimension():
    text = torch.randn(2, 3, 4, 6)
    states = read(text, torch.randn(2, 7, 5), arguments={"attention_mask": torch.ones(2, 3, 4)})
    assert torch.equal(states.text_states, text.view(6, 4, 6))
    assert states.text_mask.shape == (6, 4)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 5), (2, 5)),
        ((2, 7, 5), (2, 5)),
        ((2, 5, 3, 2), (2, 5)),
        ((2, 3, 7, 5), (6, 5)),
        ((2, 3, 5, 4, 4), (6, 5)),
    ],
)
def test_image_shapes(shape, expected):
    image = torch.randn(shape)
    state = read(torch.randn(2, 4, 6), image).image_state
    dims = {2: (), 3: (1,), 4: (2, 3) if shape[1] == 5 else (2,), 5: (3, 4)}[len(shape)]
    torch.testing.assert_close(state, (image.mean(dims) if dims else image).reshape(expected))


def test_slices_cut_states_and_masks():
    text, mask = torch.randn(2, 9, 6), torch.tensor([[1] * 9, [1] * 5 + [0] * 4])
    states = read(
        text,
        torch.randn(2, 9, 5),
        text_slice=(None, 6),
        image_slice=slice(6, None),
        arguments={"attention_mask": mask},
    )
    assert torch.equal(states.text_states, text[:, :6])
    assert torch.equal(states.text_mask, mask[:, :6].bool())
    assert states.image_states.shape == (2, 3, 5)
    states = read(text, torch.randn(2, 9, 5), text_slice=(0, 6), arguments={"attention_mask": mask[:, :6]})
    assert torch.equal(states.text_mask, mask[:, :6].bool())


def test_image_mask_is_respected():
    image, seen = torch.randn(2, 3, 5), torch.tensor([[1, 0, 1], [1, 0, 0]])
    state = read(torch.randn(2, 4, 6), image, image_mask="seen", arguments={"seen": seen}).image_state
    torch.testing.assert_close(state, torch.stack([(image[0, 0] + image[0, 2]) / 2, image[1, 0]]))


def test_outputs_by_index_and_name():
    wanted = torch.randn(2, 4, 6)
    other = torch.randn(2, 3)
    image = torch.randn(2, 5)
    assert torch.equal(read((other, wanted), image, text_output=1).text_states, wanted)
    assert torch.equal(read({"a": other, "b": wanted}, image, text_output="b").text_states, wanted)
    assert torch.equal(read((wanted, other), {"x": image}).text_states, wanted)
    output = tf.modeling_outputs.BaseModelOutput(last_hidden_state=wanted, hidden_states=(other,))
    assert torch.equal(read(output, image, text_output="last_hidden_state").text_states, wanted)


def test_text_cls_by_position_mean_or_path():
    text, mask = torch.randn(2, 4, 6), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    image, call = torch.randn(2, 5), {"attention_mask": mask}
    assert torch.equal(read(text, image, arguments=call, text_cls=-1).text_cls, text[:, -1])
    torch.testing.assert_close(
        read(text, image, arguments=call, text_cls="mean").text_cls[1], text[1, :2].mean(0)
    )
    own = torch.randn(2, 6)
    assert torch.equal(read(text, image, own, text_cls="cls").text_cls, own)
    tokens = torch.randn(2, 3, 6)
    assert torch.equal(read(text, image, tokens, text_cls="cls").text_cls, tokens[:, 0])


@pytest.mark.parametrize(
    ("arguments", "states", "message"),
    [
        (
            {"text": torch.randn(2, 6)},
            {},
            r"text states at 'text' have shape \(2, 6\); expected \(texts, tokens, width\)",
        ),
        ({"text": torch.randn(2, 4, 3)}, {}, r"shape \(2, 4, 3\); expected \(texts, tokens, 6\)"),
        (
            {"image": torch.randn(2, 4)},
            {},
            r"image states at 'image' have shape \(2, 4\); expected \(images, 5\)",
        ),
        (
            {"text": (torch.randn(2, 4, 6),)},
            {"text_output": 3},
            r"output of 'text' \(tuple 1 items\) has no 3",
        ),
        (
            {"text": torch.ones(2, 4, dtype=torch.long)},
            {},
            "expected a floating-point tensor; pick it with text_output=",
        ),
        ({}, {"image": "unused"}, r"module 'unused' \(image\) was not called in the student's last forward"),
        (
            {"arguments": {"attention_mask": torch.ones(2, 3)}},
            {},
            r"the mask 'attention_mask' has shape \(2, 3\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, states, message):
    values = {"text": torch.randn(2, 4, 6), "image": torch.randn(2, 5), **arguments}
    student = Fused(values["text"], values["image"])
    capture = StateCapture(student, StudentStates(**{**WIDTHS, **states}))
    student(**values.get("arguments", {}))
    with pytest.raises(ValueError, match=message):
        capture.read()


def test_wrong_path_names_the_nearest_modules_first():
    with pytest.raises(
        ValueError, match=r"TwoTower has no module 'vison' \(image\); it has, nearest first: vision, "
    ) as error:
        StateCapture(TwoTower(), StudentStates(text="text", image="vison"))
    assert all(name in str(error.value) for name in ("vision.0", "embed", "classify"))
    with pytest.raises(ValueError, match="no module ''"):
        find_module(TwoTower(), "")


def test_no_preset_names_the_presets_and_the_way_out():
    with pytest.raises(ValueError, match="TwoTower has no preset") as error:
        StateCapture(TwoTower())
    assert all(name in str(error.value) for name in PRESETS)
    assert "states=cliptd.StudentStates(text=" in str(error.value)


def test_unknown_width_asks_for_it():
    student = Fused(torch.randn(2, 4, 6), torch.randn(2, 5))
    with pytest.raises(
        ValueError, match=r"width of text='text' \(Identity\) is not known .* add text_width="
    ):
        StateCapture(student, StudentStates(text="text", image="image"))


def test_states_are_used_up_and_need_a_forward():
    student = TwoTower()
    capture = StateCapture(student, PATHS)
    with pytest.raises(ValueError, match="no states are captured"):
        capture.read()
    student(**tiny_batch("two_tower"))
    capture.read()
    with pytest.raises(ValueError, match="no states are captured"):
        capture.read()
    student.text(torch.randn(2, 3, 8))  # outside a forward of the student
    with pytest.raises(ValueError, match="no states are captured"):
        capture.read()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_pooling": "max"}, "image_pooling is 'max'; choose"),
        ({"image": "vision"}, "given without text"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        StudentStates(**options)


@pytest.mark.parametrize(
    ("module", "width"),
    [
        (nn.Linear(3, 4), 4),
        (nn.LayerNorm((2, 5)), 5),
        (nn.Embedding(3, 6), 6),
        (nn.GRU(3, 4, bidirectional=True), 8),
        (nn.LSTM(3, 4, proj_size=2), 2),
        (nn.Conv2d(3, 7, 1), 7),
        (nn.BatchNorm2d(9), 9),
        (nn.GroupNorm(2, 8), 8),
        (nn.MultiheadAttention(8, 2), 8),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), 1), 8),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU()), 4),
        (nn.Sequential(nn.Linear(3, 4), nn.Flatten()), None),
        (nn.Identity(), None),
    ],
)
def test_output_width(module, width):
    assert output_width(module) == width
    values = {nn.Embedding: torch.zeros(2, 3, dtype=torch.long), nn.Conv2d: torch.zeros(1, 3, 2, 2)}
    if width and type(module) in (nn.Linear, nn.GRU, nn.LSTM, nn.Embedding, nn.Conv2d):
        output = module(values.get(type(module), torch.zeros(2, 3, 3)))
        output = output[0] if isinstance(output, tuple) else output
        assert output.shape[1 if isinstance(module, nn.Conv2d) else -1] == width


def test_output_width_of_a_transformers_model():
    assert output_width(tiny_base("visual_bert")) == TINY["visual_bert"].width


def test_masked_mean_ignores_what_padding_holds():
    states = torch.tensor([[[1.0], [float("nan")]], [[5.0], [7.0]], [[2.0], [2.0]]])
    mask = torch.tensor([[1, 0], [1, 1], [0, 0]])
    assert torch.equal(masked_mean(states, mask), torch.tensor([[1.0], [6.0], [0.0]]))


def test_half_precision_states_are_pooled_in_float32():
    states = read(torch.randn(2, 4, 6).bfloat16(), torch.randn(2, 300, 5).bfloat16())
    assert states.text_states.dtype == states.image_state.dtype == torch.float32
