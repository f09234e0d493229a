"""VCR's Q→A, QA→R and Q→AR as a metric of the `evaluate` library.

metric = evaluate.load("tasks/vcr/vcr_metric.py")
metric.compute(
    predictions=[{"answer": [0.7, 0.1, 0.1, 0.1], "rationale": [0.1, 0.1, 0.1, 0.7]}],
    references=[{"answer_label": 0, "rationale_label": 3}],
)  # {'q_to_a': 100.0, 'qa_to_r': 100.0, 'q_to_ar': 100.0}
"""

import datasets
import evaluate

from tasks.vcr.metric import vcr_metrics

_DESCRIPTION = (
    "Visual Commonsense Reasoning: Q→A, QA→R (given the right answer) and Q→AR (both right), in percent."
)
_CITATION = (
    "Zellers et al., From Recognition to Cognition: Visual Commonsense Reasoning, CVPR 2019, arXiv 1811.10830"
)
_INPUTS = "answer, rationale: four scores each, the rationales' given the right answer; labels: 0 to 3."


class VcrMetric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.Sequence(datasets.Value("float64"))
        features = {
            "predictions": {"answer": scores, "rationale": scores},
            "references": {
                "answer_label": datasets.Value("int64"),
                "rationale_label": datasets.Value("int64"),
            },
        }
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions: list[dict], references: list[dict]) -> dict[str, float]:
        return vcr_metrics(
            [prediction["answer"] for prediction in predictions],
            [prediction["rationale"] for prediction in predictions],
            [reference["answer_label"] for reference in references],
            [reference["rationale_label"] for reference in references],
        )
