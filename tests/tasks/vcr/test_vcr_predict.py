"""Predictions come out in the dataset's order, given the right answer or all four."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tasks.vcr.data import VcrDataset
from tasks.vcr.metric import read_leaderboard, score_leaderboard
from tasks.vcr.predict import evaluate, predict, write_leaderboard
from tests.helpers.tiny_vcr import pair_tokenizer, patch_collator, tiny_vcr

COLLATE = patch_collator(
    pair_tokenizer(),
    lambda image: torch.tensor(np.asarray(image.resize((4, 4)))).permute(2, 0, 1) / 255,
    distillation=True,
)


class Hashing(nn.Module):
    """Logits that are a function of each candidate's tokens and the image, whatever the batch and its
    padding."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, input_ids, attention_mask, token_type_ids, pixel_values, pixel_mask):
        positions = torch.arange(1, input_ids.shape[-1] + 1)
        mixed = (input_ids * attention_mask * positions**2).sum(-1)  # whole numbers: exact in any batch
        phase = mixed % 1000 * 0.37 + pixel_values.mean((1, 2, 3))[:, None]
        return SimpleNamespace(logits=self.dropout(self.scale * torch.sin(phase)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return VcrDataset.from_root(tiny_vcr(tmp_path_factory.mktemp("vcr"), items=5), "val")


def alone(model, dataset, position, task, given=None):
    batch = COLLATE([dataset.example(position, task, given)])
    for name in ("labels", "distillation_inputs"):
        batch.pop(name, None)
    with torch.no_grad():
        return model(**batch).logits[0].double().softmax(0).numpy()


def test_probabilities_are_those_of_each_choice_alone(dataset):
    model = Hashing().eval()
    gold = predict(model, dataset, COLLATE, batch_size=3)
    everything = predict(model, dataset, COLLATE, given="all", batch_size=4)
    assert gold.annot_ids == everything.annot_ids == [f"val-{n}" for n in range(5)]
    assert everything.rationales.shape == (5, 4, 4)
    for n in range(5):
        np.testing.assert_allclose(gold.answers[n], alone(model, dataset, n, "q_to_a"), atol=1e-5)
        np.testing.assert_allclose(gold.rationales[n], alone(model, dataset, n, "qa_to_r"), atol=1e-5)
        for i in range(4):
            expected = alone(model, dataset, n, "qa_to_r", given=i)
            np.testing.assert_allclose(everything.rationales[n, i], expected, atol=1e-5)
    assert len(np.unique(everything.rationales.round(6), axis=0)) > 1


def test_leaderboard_scores_as_evaluate_does(dataset, tmp_path):
    model = Hashing()
    path = tmp_path / "P.csv"
    predictions = predict(model, dataset, COLLATE, given="all")
    write_leaderboard(path, predictions)
    assert list(tmp_path.iterdir()) == [path]
    annot_ids, answers, rationales = read_leaderboard(path)
    assert annot_ids == predictions.annot_ids
    np.testing.assert_allclose(answers, predictions.answers, atol=1e-7)
    np.testing.assert_allclose(rationales, predictions.rationales, atol=1e-7)
    assert score_leaderboard(path, dataset.lines.path) == evaluate(model, dataset, COLLATE)
    assert model.training  # left as it was


def test_what_is_scored_is_written_item_by_item(dataset, tmp_path):
    model = Hashing()
    scores = evaluate(model, dataset, COLLATE, write_to=tmp_path / "predictions.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    gold = predict(model, dataset, COLLATE)
    assert [line["annot_id"] for line in lines] == gold.annot_ids
    for name in ("answers", "rationales"):
        np.testing.assert_allclose([line[name] for line in lines], getattr(gold, name), atol=1e-6)
    right = np.argmax([line["answers"] for line in lines], 1) == dataset.column("answer_label")
    assert scores["q_to_a"] == 100 * right.mean()


def test_a_test_file_is_predicted_given_every_answer(tmp_path):
    root = tiny_vcr(tmp_path, items=2, split="test", labels=False)
    dataset = VcrDataset.from_root(root, "test", tasks="q_to_a")
    predictions = predict(Hashing(), dataset, COLLATE, given="all")
    np.testing.assert_allclose(predictions.rationales.sum(-1), 1, atol=1e-5)
    with pytest.raises(ValueError, match=r"test\.jsonl has items without labels"):
        evaluate(Hashing(), dataset, COLLATE)


class Rank:
    """One of two processes; `reduce` keeps its table."""

    num_processes, device = 2, "cpu"

    def __init__(self, index):
        self.process_index = index

    def unwrap_model(self, model):
        return model

    def reduce(self, table, reduction):
        assert reduction == "sum"
        self.table = table
        return table


def test_two_processes_share_the_items_and_their_tables_add_up(dataset):
    model = Hashing().eval()
    whole, tables = predict(model, dataset, COLLATE), []
    for index in range(2):
        rank = Rank(index)
        predict(model, dataset, COLLATE, accelerator=rank)
        tables.append(rank.table)
    assert all((table == 0).any() for table in tables)
    np.testing.assert_allclose((tables[0] + tables[1])[:, 0].numpy(), whole.answers, atol=1e-5)
    np.testing.assert_allclose((tables[0] + tables[1])[:, 1].numpy(), whole.rationales, atol=1e-5)


def test_the_leaderboard_wants_all_conditions(dataset, tmp_path):
    with pytest.raises(ValueError, match=r"predict\(…, given='all'\)"):
        write_leaderboard(tmp_path / "P.csv", predict(Hashing(), dataset, COLLATE))
    with pytest.raises(ValueError, match="given is 'some'; choose 'gold' or 'all'"):
        predict(Hashing(), dataset, COLLATE, given="some")
