"""Macro F1: the F1 of every label on its own, then their plain mean."""

import datasets
import evaluate
import numpy
from sklearn.metrics import f1_score

_DESCRIPTION = (
    "F1 of each label, averaged so that rare labels weigh as much as frequent ones. Labels that no row expects and no "
    "row was given are left out, as scikit-learn does."
)
_INPUTS = """
Args:
    predictions (list of int, or of lists of 0 and 1 in the configuration `multilabel`): Predicted labels.
    references (the same): Expected labels.
Returns:
    f1_macro (float): Between 0 and 1; not a number where there is no label at all.
"""


class F1Macro(evaluate.Metric):
    """Average over labels."""

    def _info(self) -> evaluate.MetricInfo:
        label = datasets.Value("int64")
        value = datasets.List(label) if self.config_name == "multilabel" else label
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        given, expected = numpy.asarray(predictions), numpy.asarray(references)
        occurring = None
        if expected.ndim == 2:
            occurring = numpy.flatnonzero(given.any(axis=0) | expected.any(axis=0))
            if not len(occurring):
                return {"f1_macro": numpy.nan}
        return {"f1_macro": float(f1_score(expected, given, labels=occurring, average="macro"))}
