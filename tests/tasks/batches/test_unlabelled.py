"""Images and texts without labels: read, paired with labelled items, distilled and nothing else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cliptd
from cliptd import StudentStates, TargetedDistillationConfig
from tasks.batches.unlabelled import CollateWithUnlabelled, UnlabelledPairs, WithUnlabelled

pytestmark = pytest.mark.usefixtures("own_cache")


def write(folder, lines):
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (20, 10), "red").save(folder / "pictures" / "a.png")
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_pairs_are_read_with_their_boxes_or_without(tmp_path):
    boxed = {"image": "pictures/a.png", "text": "a dog", "boxes": [[1, 2, 9, 9]], "width": 20, "height": 10}
    pairs = UnlabelledPairs(write(tmp_path, [{"image": "pictures/a.png", "text": "red"}, boxed]))
    assert len(pairs) == 2
    plain, with_box = pairs[0], pairs[1]
    assert (plain.image_key, plain.text, plain.label) == ("unlabelled/pictures/a.png", "red", None)
    assert plain.size == (20, 10)
    assert plain.boxes.shape == (0, 4)
    np.testing.assert_array_equal(with_box.boxes, [[1, 2, 9, 9]])
    assert with_box.image().size == (20, 10)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"image": "pictures/a.png"}], r"pairs\.jsonl:1: text is None"),
        ([{"image": "", "text": "x"}], r"pairs\.jsonl:1: image is ''"),
        ([], "holds no pair"),
        (
            [{"image": "pictures/a.png", "text": "x", "boxes": [[0, 0, 50, 5]], "width": 20, "height": 10}],
            "outside",
        ),
    ],
)
def test_bad_lines_are_named(lines, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        UnlabelledPairs(write(tmp_path, lines))[0].boxes  # noqa: B018


def test_bad_pairs_are_left_out_and_listed_if_asked(tmp_path):
    good, missing = {"image": "pictures/a.png", "text": "red"}, {"image": "pictures/b.png", "text": "blue"}
    path = write(tmp_path, [{"image": "pictures/a.png"}, good, missing])
    path.write_text('{"image": "cut off\n' + path.read_text())
    with pytest.warns(UserWarning, match="3 samples skipped, 1 kept"):
        pairs = UnlabelledPairs(path, on_bad_sample="skip")
    assert [pair.text for pair in pairs] == ["red"]
    (tmp_path / "pictures" / "a.png").unlink()
    with (
        pytest.warns(UserWarning, match="4 samples skipped"),
        pytest.raises(ValueError, match="every pair is bad, the first"),
    ):
        UnlabelledPairs(path, on_bad_sample="skip")
    assert [message.split(": ")[0] for message in pairs.skipped] == [f"{path}:{k}" for k in (1, 2, 4)]


def test_a_pass_goes_once_through_the_longer_set():
    few, many = ["a", "b", "c"], list(range(7))
    both = WithUnlabelled(few, many)
    assert len(both) == 7
    assert [both[k][1] for k in range(7)] == many
    assert [both[k][0] for k in range(7)] == ["a", "b", "c", "a", "b", "c", "a"]
    assert [WithUnlabelled(many, few)[k] for k in (0, 6)] == [(0, "a"), (6, "a")]
    with pytest.raises(IndexError):
        both[7]


def test_batches_hold_the_unlabelled_ones_apart():
    examples = [("a", 1), ("b", 2)]
    collate = CollateWithUnlabelled(lambda rows: {"labelled": rows}, lambda rows: {"rows": rows})
    assert collate(examples) == {"labelled": ["a", "b"], "unlabelled": {"rows": [1, 2]}}
    assert CollateWithUnlabelled(lambda rows: {"labelled": rows}, None)(examples) == {"labelled": ["a", "b"]}


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.image = nn.Embedding(9, 6), nn.Linear(4, 6)
        self.score = nn.Linear(12, 3)

    def forward(self, ids, pixels, labels=None):
        text, image = self.text(ids), self.image(pixels)
        logits = self.score(torch.cat([text.mean(1), image.mean(1)], 1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits}


def batch_of(count, seed):
    generator = torch.Generator().manual_seed(seed)
    columns = {
        "teacher_image_embeds": torch.randn(count, 5, generator=generator),
        "teacher_text_embeds": torch.randn(count, 1, 5, generator=generator),
        "teacher_word_embeds": torch.randn(count, 1, 2, 5, generator=generator),
        "teacher_word_mask": torch.ones(count, 1, 2, dtype=torch.bool),
        "teacher_word_ids": torch.randint(-1, 2, (count, 1, 7), generator=generator),
        "teacher_match": torch.randn(count, 1, generator=generator),
    }
    return {
        "ids": torch.randint(0, 9, (count, 7), generator=generator),
        "pixels": torch.randn(count, 3, 4, generator=generator),
        **columns,
    }


def test_only_their_distillation_is_added():
    torch.manual_seed(0)
    states = StudentStates(text="text", image="image", text_cls="mean", text_mask=None)
    config = TargetedDistillationConfig(confidence_over="batch")
    model = cliptd.wrap(Student(), embed_dim=5, states=states, config=config).train()
    model.unlabelled_weight = 0.5
    labelled, unlabelled = batch_of(4, 1), batch_of(6, 2)
    labels = torch.tensor([0, 1, 2, 0])

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    alone = model(**labelled, labels=labels)["loss"]
    first = gradients(alone)
    model.student(unlabelled["ids"], unlabelled["pixels"])
    extra = model.distillation_loss(unlabelled, labelled=False)
    second = gradients(extra)
    both = model(**labelled, labels=labels, unlabelled=dict(unlabelled))["loss"]
    torch.testing.assert_close(both, alone + 0.5 * extra)
    for name, found in gradients(both).items():
        expected = first[name] + 0.5 * second.get(name, torch.zeros(()))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert float(model.last_terms["unlabelled"]) == pytest.approx(float(extra.detach()))
    assert "task" in model.last_terms


def test_a_student_that_distils_nothing_ignores_them():
    model = cliptd.wrap(Student(), config=TargetedDistillationConfig.for_method("none")).train()
    batch = {name: value for name, value in batch_of(4, 1).items() if not name.startswith("teacher_")}
    labels = torch.tensor([0, 1, 2, 0])
    alone = model(**batch, labels=labels)["loss"]
    assert torch.equal(model(**batch, labels=labels, unlabelled=batch_of(6, 2))["loss"], alone)
