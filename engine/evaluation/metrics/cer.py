"""Character error rate of a whole set of answers, by jiwer."""

from collections.abc import Sequence

import datasets
import evaluate
import jiwer

from engine.evaluation.metrics.wer import error_counts

_DESCRIPTION = (
    "Character errors per expected character (missing, added and replaced), counted over all rows at once; "
    "may exceed 1."
)
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers, not all of them empty.
Returns:
    cer (float): From 0.
"""


def cer_counts(predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
    """Return what each row adds: its errors, and the characters that are expected."""
    return error_counts(jiwer.process_characters, predictions, references)


class Cer(evaluate.Metric):
    """Count over all rows, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"cer": float(jiwer.cer(list(references), list(predictions)))}
