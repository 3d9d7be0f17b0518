"""A person's own metric: the mean of what their function gives for each answer."""

import datasets
import evaluate

_DESCRIPTION = "Mean of a person's own scores; the file says whether higher or lower is better."
_INPUTS = """
Args:
    predictions (list of float): What their function gave for each answer.
Returns:
    own_score (float): The mean, where higher is better.
    own_error (float): The same number, where lower is better.
"""


class MetricFile(evaluate.Metric):
    """Average over answers."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("float64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[float]) -> dict[str, float]:
        mean = sum(predictions) / len(predictions)
        return {"own_score": mean, "own_error": mean}
