"""Valid JSON: share of answers that are one JSON text and nothing else."""

import datasets
import evaluate

from engine.json_schema import parse

_DESCRIPTION = "Share of predictions that parse as JSON (RFC 8259; NaN and Infinity are none)."
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
Returns:
    json_valid (float): Between 0 and 1.
"""


def is_json(text: str) -> bool:
    """Return whether a text is JSON."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


class JsonValid(evaluate.Metric):
    """Parse each answer."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {"json_valid": sum(map(is_json, predictions)) / len(predictions)}
