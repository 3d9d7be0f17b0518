"""Micro F1: hits, misses and false alarms of all labels counted together."""

import datasets
import evaluate
import numpy
from sklearn.metrics import f1_score

_DESCRIPTION = (
    "F1 over all labels at once, so that frequent labels weigh more; with one label a row it is the accuracy."
)
_INPUTS = """
Args:
    predictions (list of int, or of lists of 0 and 1 in the configuration `multilabel`): Predicted labels.
    references (the same): Expected labels.
Returns:
    f1_micro (float): Between 0 and 1; not a number where there is no label at all.
"""


class F1Micro(evaluate.Metric):
    """Count over labels, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        value = datasets.List(label) if self.config_name == "multilabel" else label
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        given, expected = numpy.asarray(predictions), numpy.asarray(references)
        return {"f1_micro": float(f1_score(expected, given, average="micro", zero_division=numpy.nan))}
