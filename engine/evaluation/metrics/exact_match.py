"""Exact match: share of answers that equal the expected one, runs of whitespace counted as one space."""

import datasets
import evaluate

_DESCRIPTION = "Share of predictions that equal their reference after whitespace is normalised; case matters."
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers.
Returns:
    exact_match (float): Between 0 and 1.
"""


def normalise(text: str) -> str:
    """Return text without outer whitespace and with every inner run of it as one space."""
    return " ".join(text.split())


class ExactMatch(evaluate.Metric):
    """Compare normalised strings."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        pairs = list(zip(predictions, references, strict=True))
        equal = sum(normalise(prediction) == normalise(reference) for prediction, reference in pairs)
        return {"exact_match": equal / len(pairs)}
