"""Answers on the selection page."""

import torch

from tasks.finetuning.selection_page import answer_lines

LOGITS = torch.tensor([[0.1, 2.0, 0.0], [3.0, 0.0, 1.0]])


def test_a_trained_student_is_quoted_beside_the_right_answer():
    lines = answer_lines(LOGITS, torch.tensor([1, 2]), ["no", "yes", "two"], trained=True)
    assert lines == [
        "Right answer: yes. The student says yes, which is right.",
        "Right answer: two. The student says no.",
    ]


def test_an_untrained_student_is_not_quoted_and_soft_labels_have_one_best():
    soft = torch.tensor([[0.3, 0.0, 1.0], [0.0, 0.6, 0.3]])
    assert answer_lines(LOGITS, soft, ["no", "yes", "two"], trained=False) == [
        "Right answer: two.",
        "Right answer: yes.",
    ]
