"""Accuracy: share of rows whose label is right, of several labels a row all of them."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score

_DESCRIPTION = (
    "Share of rows predicted right; with several labels a row, of those where every label is (subset accuracy)."
)
_INPUTS = """
Args:
    predictions (list of int, or of lists of 0 and 1 in the configuration `multilabel`): Predicted labels.
    references (the same): Expected labels.
Returns:
    accuracy (float): Between 0 and 1.
"""


class Accuracy(evaluate.Metric):
    """Compare rows."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        value = datasets.List(label) if self.config_name == "multilabel" else label
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": float(accuracy_score(list(references), list(predictions)))}
