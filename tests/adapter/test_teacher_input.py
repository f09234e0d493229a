"""A student that reads the teacher's image embedding: the control of students that do not need it."""

import pytest
import torch
from torch import nn

from cliptd import TeacherInput
from tasks.students.architectures import ARCHITECTURES
from tasks.students.models import MultipleChoice
from tests.helpers.tiny_vcr import tiny_config

VISUAL_DIM = 6


def student_and_batch(model_type):
    torch.manual_seed(0)
    config = tiny_config(model_type, 50, VISUAL_DIM)
    if model_type == "lxmert":
        config.num_qa_labels = 1
    student = MultipleChoice(ARCHITECTURES[model_type].score.native(config)).eval()
    for parameter in student.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    ids = torch.randint(4, 50, (2, 3, 7))
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
    }
    if model_type == "visual_bert":
        batch |= {
            "visual_embeds": torch.randn(2, 3, VISUAL_DIM),
            "visual_attention_mask": torch.ones(2, 3).long(),
        }
        batch["visual_token_type_ids"] = torch.ones(2, 3, dtype=torch.long)
    elif model_type == "lxmert":
        batch |= {"visual_feats": torch.randn(2, 3, VISUAL_DIM), "visual_pos": torch.rand(2, 3, 4)}
    else:
        batch |= {"pixel_values": torch.randn(2, 3, 32, 32), "pixel_mask": torch.ones(2, 32, 32).long()}
    return student, batch


def logits(model, batch, **more):
    torch.manual_seed(0)  # ViLT draws the order of its patches
    return model(**batch, **more).logits


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_it_starts_as_the_student_then_reads_and_leaves_no_trace(model_type):
    student, batch = student_and_batch(model_type)
    with torch.no_grad():
        bare = logits(student, batch)
        model = TeacherInput(student, 5)
        embeds = torch.randn(2, 5)
        assert torch.equal(logits(model, batch, clip_image_embeds=embeds), bare)
    logits(model, batch, clip_image_embeds=embeds)[0].sum().backward()
    gradient = model.project.weight.grad
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        model.project.weight += torch.randn_like(model.project.weight)
        read = logits(model, batch, clip_image_embeds=embeds)
        assert (read - bare).abs().amax() > 1e-4
        torch.testing.assert_close(logits(model, batch, clip_image_embeds=3 * embeds), read)  # direction only
        swapped = {name: value.flip(0) for name, value in batch.items()}
        if model_type != "vilt":  # whose patches come in another order then
            torch.testing.assert_close(
                logits(model, swapped, clip_image_embeds=embeds.flip(0)).flip(0), read, atol=1e-5, rtol=1e-4
            )
        assert model.config is student.config
        assert torch.equal(logits(student, batch), bare)  # without the wrapper nothing is added
        assert model.unwrap() is student
    assert not any(module._forward_hooks for module in student.modules())


def test_modules_are_found_or_named():
    plain = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="Sequential has 0 modules named word_embeddings"):
        TeacherInput(plain, 5)
    with pytest.raises(ValueError, match="Sequential has no module 'text'"):
        TeacherInput(plain, 5, embedding="text")
    with pytest.raises(ValueError, match=r"the module '1' \(ReLU\) does not tell its width"):
        TeacherInput(nn.Sequential(nn.Embedding(9, 4), nn.ReLU()), 5, embedding="1")
    model = TeacherInput(plain, 5, embedding="0")
    ids, embeds = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 5)
    with torch.no_grad():
        model.project.bias += 1
        found, bare = model(ids, clip_image_embeds=embeds), plain(ids)
    assert torch.equal(found[:, 1], bare[:, 1])  # only the first token reads it
    assert not torch.equal(found[:, 0], bare[:, 0])
