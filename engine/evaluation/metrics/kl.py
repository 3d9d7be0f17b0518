"""KL divergence to the base model, estimated on the answers that were written."""

import math
from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = "Estimated KL divergence of the model to the base model per written token; every token weighs the same."
_INPUTS = """
Args:
    predictions (list of float): KL summed over the tokens of each answer, in nats.
    references (list of int): Tokens of each answer.
Returns:
    kl (float): Nats per token; 0 where the two models agree. Not a number without a token.
"""


class Kl(evaluate.Metric):
    """Divide sums."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[float], references: list[int]) -> dict[str, float]:
        num_tokens = sum(references)
        return {"kl": math.fsum(predictions) / num_tokens if num_tokens else math.nan}


def row_kl(log_probs: Sequence[float], base_log_probs: Sequence[float]) -> float:
    """Return the summed KL of one answer, by the estimator that TRL's GRPO uses (Schulman 2020, k3): never negative.

    Args:
        log_probs: Log-probability of each written token under the model, in nats.
        base_log_probs: The same under the base model.
    """
    return math.fsum(_token_kl(base - ours) for ours, base in zip(log_probs, base_log_probs, strict=True))


def _token_kl(difference: float) -> float:
    # exp of more is too large for a number.
    return math.exp(difference) - difference - 1 if difference < 709 else math.inf
