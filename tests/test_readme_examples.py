"""The examples of the READMEs, run as they stand, with what they leave to the reader filled in."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import cliptd
from tasks.vqa.convert import write_official
from tasks.vqa.data import VqaDataset
from tasks.vqa.vocabulary import AnswerVocabulary
from tests.helpers.tiny_clip import tiny_open_clip_folder

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "tasks").rglob("README.md")]
COLOURS = ("red", "green", "blue")


def example_of(readme, heading):
    """The Python lines under a heading."""
    section = (ROOT / readme).read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)


def test_the_first_example_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {}
    exec(example_of("README.md", "Your own model"), names)
    assert float(names["model"].last_terms["words"]) > 0
    assert type(names["my_model"]).__name__ == "MyModel"
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT)) for path in PAGES))
def test_links_lead_to_files_that_are_there(page):
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        assert target.startswith("https://") or ((ROOT / page).parent / target).exists(), target


def write_table(folder):
    (folder / "pictures").mkdir()
    for name in ("train", "val"):
        lines = ["image,question,answer"]
        for k in range(24):
            colour = COLOURS[k % 3]
            Image.new("RGB", (32, 32), colour).save(folder / "pictures" / f"{colour}.png")
            lines.append(f"{colour}.png,What color is this thing ?,{colour}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")


def test_your_own_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    write_table(tmp_path)
    code = example_of("tasks/vqa/README.md", "Your own data set")
    assert len(code.splitlines()) <= 20
    exec(code, {})
    for split in ("train", "val"):
        dataset = VqaDataset.from_root(tmp_path / "my_vqa", split)
        assert len(dataset) == 24
        assert dataset[1].answer == "green"
        assert dataset[1].image().getpixel((0, 0)) == (0, 128, 0)


class CnnLstm(nn.Module):
    """A model that no library knows: colours by a CNN, the question by an LSTM."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.cnn = nn.Sequential(nn.Conv2d(3, 12, 8, stride=8), nn.ReLU())
        self.answer = nn.Linear(24 + 12, len(COLOURS))

    def forward(self, question_ids, question_mask, pixel_values, labels=None):
        states, _ = self.lstm(self.embedding(question_ids))
        last = states[torch.arange(len(states)), question_mask.sum(1) - 1]
        logits = self.answer(torch.cat([last, self.cnn(pixel_values).mean((2, 3))], dim=1))
        loss = None if labels is None else nn.functional.binary_cross_entropy_with_logits(logits, labels)
        return {"loss": loss, "logits": logits}


def test_your_own_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    write_table(tmp_path)
    rows = [{"image": f"{c}.png", "question": "What color is this thing ?", "answer": c} for c in COLOURS * 8]
    write_official(rows, "pictures", "my_vqa")
    dataset = VqaDataset.from_root("my_vqa", "train", vocabulary=AnswerVocabulary(COLOURS))

    def my_collate(examples):
        words = [example.question.split() for example in examples]
        ids = torch.tensor([[len(word) for word in text] for text in words])
        pixels = [torch.tensor(list(example.image().tobytes())).view(32, 32, 3) / 255 for example in examples]
        return {
            "question_ids": ids,
            "question_mask": torch.ones_like(ids),
            "pixel_values": torch.stack(pixels).permute(0, 3, 1, 2).float(),
            "labels": torch.stack([example.label for example in examples]),
        }

    torch.manual_seed(0)
    my_model = CnnLstm()
    bare_batch = my_collate([dataset[0], dataset[1]])
    with torch.no_grad():
        before = my_model(**bare_batch)["logits"]
    given = {
        "teacher": cliptd.load_teacher(str(tiny_open_clip_folder(tmp_path / "teacher"))),
        "first_examples": [dataset[k] for k in range(6)],
        **{"my_model": my_model, "my_collate": my_collate, "dataset": dataset},
    }
    code = example_of("tasks/vqa/README.md", "Your own model")
    assert len([line for line in code.splitlines() if line]) <= 20
    exec(code, given)
    model = given["model"]
    with torch.no_grad():
        assert torch.equal(model(**bare_batch)["logits"], before)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        for batch in given["loader"]:
            output = model(**batch)
            output["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(dict(model.last_terms))
    assert losses[-1]["distillation"] < losses[0]["distillation"]
    assert all(float(losses[0][name]) > 0 for name in ("task", "image", "words", "text"))
    assert model.unwrap() is my_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in my_model.modules())
    assert isinstance(my_model(**bare_batch)["logits"], torch.Tensor)


@pytest.mark.slow
def test_easy_vqa_runs_as_your_own_data_set(tmp_path, monkeypatch):
    """48,000 questions about 5,000 pictures that nobody here made (PyPI: easy-vqa)."""
    easy_vqa = pytest.importorskip("easy_vqa")
    monkeypatch.setenv("CLIPTD_CACHE", str(tmp_path / "cache"))
    sources = {
        "train": (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
        "val": (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
    }
    for split, (columns, paths) in sources.items():
        rows = [
            {"image": paths[image], "question": question, "answer": answer}
            for question, answer, image in zip(*columns, strict=True)
        ]
        written = write_official(rows, "/", tmp_path / "easy", split)
        assert written["questions"] == len(columns[0])
    dataset = VqaDataset.from_root(tmp_path / "easy", "train")
    vocabulary = AnswerVocabulary.build(dataset.column("answer"))
    assert set(vocabulary.answers) == set(easy_vqa.get_answers())
    assert dataset[0].image().size == (64, 64)
