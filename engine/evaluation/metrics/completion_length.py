"""Completion length: tokens that the model writes for an answer."""

import datasets
import evaluate

_DESCRIPTION = "Mean number of tokens of the answers."
_INPUTS = """
Args:
    predictions (list of int): Tokens of each answer.
Returns:
    completion_length (float): Tokens.
"""


class CompletionLength(evaluate.Metric):
    """Average over answers."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int]) -> dict[str, float]:
        return {"completion_length": sum(predictions) / len(predictions)}
