"""Perplexity from summed losses: exp of the mean cross-entropy per token."""

import math

import datasets
import evaluate

_DESCRIPTION = "exp(sum of losses / number of tokens); every token weighs the same, whatever row it stands in."
_INPUTS = """
Args:
    predictions (list of float): Summed cross-entropy of each batch or row, in nats.
    references (list of int): Tokens behind each sum.
Returns:
    loss (float): Mean cross-entropy per token.
    perplexity (float): exp(loss); infinite where that is too large for a number.
"""


class Perplexity(evaluate.Metric):
    """Weigh sums by tokens."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, float]:
        loss = math.fsum(predictions) / sum(references)
        return {"loss": loss, "perplexity": math.exp(loss) if loss < 709 else math.inf}
