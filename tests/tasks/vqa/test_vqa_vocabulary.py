"""The answers a model chooses from, and their soft targets."""

import pytest
import torch

from tasks.vqa.metric import answer_accuracy
from tasks.vqa.vocabulary import AnswerVocabulary


def test_answers_are_normalised_counted_and_cut():
    answers = ["Yes", "yes.", "the yes", "two", "2", "red, white", "red white"] + ["no"] * 3 + ["rare"]
    vocabulary = AnswerVocabulary.build(answers, min_occurrences=2)
    assert vocabulary.answers == ["no", "yes", "2", "red white"]  # by count, equals in alphabetical order
    with pytest.raises(ValueError, match="none of 5 answers occurs 9 times"):
        AnswerVocabulary.build(answers)


def test_soft_targets_are_official_accuracies():
    vocabulary = AnswerVocabulary(["yes", "2", "3", "red white"])
    annotated = [["yes"] * 10, ["2"] * 2 + ["two"] + ["3"] * 1 + ["many"] * 6, ["Red White"] * 9 + ["yes"]]
    targets = vocabulary.target_matrix(annotated)
    expected = torch.tensor([[1, 0, 0, 0], [0, 0.9, 0.3, 0], [0.3, 0, 0, 1]])
    torch.testing.assert_close(targets, expected)
    for row, answers in enumerate(annotated):
        for number, answer in enumerate(vocabulary.answers):
            assert targets[row, number] == pytest.approx(answer_accuracy(answer, answers))
    assert vocabulary.coverage(annotated) == pytest.approx(100 * (1 + 0.9 + 1) / 3)


def test_where_all_agree_only_their_own_spelling_scores():
    """As for the official evaluator, which then normalises nothing."""
    vocabulary = AnswerVocabulary(["yes", "Yes"])
    assert vocabulary.soft_targets(["Yes"] * 10) == {1: 1.0}


def test_an_answer_in_another_spelling_scores_where_annotators_disagree():
    vocabulary = AnswerVocabulary(["Yes", "no"])
    found = vocabulary.soft_targets(["yes"] * 7 + ["no"] * 3)
    assert found == {0: pytest.approx(1.0), 1: pytest.approx(0.9)}


def test_files(tmp_path):
    path = tmp_path / "answers.json"
    AnswerVocabulary(["oui", "café"]).save(path)
    assert AnswerVocabulary.load(path).answers == ["oui", "café"]
    path.write_text('{"yes": 1}')
    with pytest.raises(ValueError, match=r"answers\.json: expected a JSON list of answers"):
        AnswerVocabulary.load(path)
    with pytest.raises(ValueError, match=r"\['a'\] more than once"):
        AnswerVocabulary(["a", "b", "a"])
