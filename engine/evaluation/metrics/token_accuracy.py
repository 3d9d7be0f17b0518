"""Token accuracy from counts: expected tokens that the model ranks first."""

import datasets
import evaluate

_DESCRIPTION = "Tokens predicted right / tokens, summed over rows."
_INPUTS = """
Args:
    predictions (list of int): Tokens predicted right in each batch or row.
    references (list of int): Tokens in it.
Returns:
    token_accuracy (float): Between 0 and 1.
"""


class TokenAccuracy(evaluate.Metric):
    """Divide sums of counts."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"token_accuracy": sum(predictions) / sum(references)}
