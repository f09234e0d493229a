"""SNLI-VE's accuracy as a metric of the `evaluate` library.

metric = evaluate.load("tasks/snli_ve/snli_ve_metric.py")
metric.compute(predictions=[0, 2], references=[0, 1])  # {'accuracy': 50.0, 'per_class': {…}, 'pairs': 2}
"""

import datasets
import evaluate

from tasks.snli_ve.metric import snli_ve_metrics

_DESCRIPTION = "SNLI-VE: accuracy over all pairs and among the pairs of each label, in percent."
_CITATION = (
    "Xie et al., Visual Entailment: A Novel Task for Fine-Grained Image Understanding, arXiv 1901.06706"
)
_INPUTS = "predictions, references: 0 entailment, 1 neutral, 2 contradiction."


class SnliVeMetric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("int64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict:
        return snli_ve_metrics(predictions, references)
