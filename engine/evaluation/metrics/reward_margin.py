"""Reward margin: by how much chosen answers are rewarded more than rejected ones."""

from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = "Mean of the reward of the chosen answer less that of the rejected one."
_INPUTS = """
Args:
    predictions (list of float): Rewards of the chosen answers.
    references (list of float): Rewards of the rejected answers.
Returns:
    reward_margin (float): In units of the reward.
"""


class RewardMargin(evaluate.Metric):
    """Average over pairs."""

    def _info(self) -> evaluate.MetricInfo:
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": number, "references": number}),
            module_type="metric",
        )

    def _compute(self, predictions: list[float], references: list[float]) -> dict[str, float]:
        margins = row_margins(predictions, references)
        return {"reward_margin": sum(margins) / len(margins)}


def row_margins(chosen: Sequence[float], rejected: Sequence[float]) -> list[float]:
    """Return the margin of every pair."""
    return [better - worse for better, worse in zip(chosen, rejected, strict=True)]
