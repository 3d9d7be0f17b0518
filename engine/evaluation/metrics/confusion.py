"""The confusion matrix: which label was given where which was expected."""

import datasets
import evaluate
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix

_DESCRIPTION = (
    "Rows counted by expected and given label. With several labels a row each label has a table of its own: not there "
    "or there, not given or given."
)
_INPUTS = """
Args:
    predictions (list of int, or of lists of 0 and 1 in the configuration `multilabel`): Predicted labels.
    references (the same): Expected labels.
    num_labels (int): Labels in all; every label is below it.
Returns:
    counts (list): `counts[expected][given]`; in the configuration `multilabel`, `counts[label][expected][given]`.
"""


class Confusion(evaluate.Metric):
    """Count pairs of expected and given labels."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        value = datasets.List(label) if self.config_name == "multilabel" else label
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int], references: list[int], num_labels: int) -> dict[str, list[list[int]]]:
        labels = list(range(num_labels))
        count = multilabel_confusion_matrix if self.config_name == "multilabel" else confusion_matrix
        return {"counts": count(list(references), list(predictions), labels=labels).tolist()}
