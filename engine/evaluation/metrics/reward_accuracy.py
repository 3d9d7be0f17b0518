"""Reward accuracy: share of pairs whose chosen answer has the higher reward."""

from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = "Share of pairs in which the chosen answer is rewarded more than the rejected one; a tie counts half."
_INPUTS = """
Args:
    predictions (list of float): Rewards of the chosen answers.
    references (list of float): Rewards of the rejected answers.
Returns:
    reward_accuracy (float): Between 0 and 1; 0.5 is guessing. Not a number where a reward is none.
"""


class RewardAccuracy(evaluate.Metric):
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
        return {"reward_accuracy": sum(row_wins(predictions, references)) / len(predictions)}


def row_wins(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return for every pair 1 where ours is higher, 0 where theirs is, and a half for a tie.

    The log of TRL's trainers counts a tie as lost. Before a preference run the model is its own reference,
    every pair is a tie, and half is what guessing reaches.
    """
    return [_win(our, their) for our, their in zip(ours, theirs, strict=True)]


def _win(our: float, their: float) -> float:
    if our != our or their != their:
        return float("nan")
    return 0.5 if our == their else float(our > their)
