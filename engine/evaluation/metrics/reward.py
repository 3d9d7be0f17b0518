"""Reward: what the answers to held-out prompts earn on average."""

import datasets
import evaluate

_DESCRIPTION = "Mean reward of the answers."
_INPUTS = """
Args:
    predictions (list of float): Reward of each answer.
Returns:
    reward (float): In units of the reward.
"""


class Reward(evaluate.Metric):
    """Average over answers."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("float64")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[float]) -> dict[str, float]:
        return {"reward": sum(predictions) / len(predictions)}
