"""Word error rate of a whole set of answers, by jiwer."""

from collections.abc import Callable, Sequence
from typing import Any

import datasets
import evaluate
import jiwer

_DESCRIPTION = (
    "Word errors per expected word (missing, added and replaced), counted over all rows at once; may exceed 1."
)
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers, not all of them empty.
Returns:
    wer (float): From 0.
"""


def error_counts(
    process: Callable[..., Any], predictions: Sequence[str], references: Sequence[str]
) -> list[list[float]]:
    """Return the errors of each row, and the units that are expected, as one of jiwer's functions counts them."""
    rows = []
    for prediction, reference in zip(predictions, references, strict=True):
        found = process([reference], [prediction])
        errors = found.substitutions + found.deletions + found.insertions
        rows.append([float(errors), float(found.hits + found.substitutions + found.deletions)])
    return rows


def wer_counts(predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
    """Return what each row adds: its errors, and the words that are expected."""
    return error_counts(jiwer.process_words, predictions, references)


class Wer(evaluate.Metric):
    """Count over all rows, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"wer": float(jiwer.wer(list(references), list(predictions)))}
