"""VQA's official accuracy as a metric of the `evaluate` library.

metric = evaluate.load("tasks/vqa/vqa_metric.py")
metric.compute(
    predictions=["two"],
    references=[{"answers": ["2"] * 10, "question_type": "how many", "answer_type": "number"}],
)  # {'overall': 0.0, …}: where all ten annotators agree, nothing is normalised
"""

import datasets
import evaluate

from tasks.vqa.metric import answer_accuracy, vqa_metrics

_DESCRIPTION = (
    "VQA accuracy as the official evaluator computes it, overall and by answer and question type, in percent."
)
_CITATION = "Antol et al., VQA: Visual Question Answering, ICCV 2015, arXiv 1505.00468"
_INPUTS = (
    "predictions: answers; references: the ten annotators' answers, the question type and the answer type."
)


class VqaMetric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = {
            "predictions": text,
            "references": {"answers": datasets.Sequence(text), "question_type": text, "answer_type": text},
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: list[str], references: list[dict]) -> dict:
        return vqa_metrics(
            (number, answer_accuracy(answer, given["answers"]), given["question_type"], given["answer_type"])
            for number, (answer, given) in enumerate(zip(predictions, references, strict=True))
        )
