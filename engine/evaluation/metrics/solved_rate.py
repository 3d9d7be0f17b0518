"""Solved rate: share of answers whose reward is that of a solved task."""

from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = "Share of answers whose reward reaches what a right answer earns."
_INPUTS = """
Args:
    predictions (list of float): Reward of each answer.
    references (list of float): Reward from which each of them counts as solved.
Returns:
    solved_rate (float): Between 0 and 1.
"""


class SolvedRate(evaluate.Metric):
    """Average over answers."""

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
        solved = row_solved(predictions, references)
        return {"solved_rate": sum(solved) / len(solved)}


def row_solved(rewards: Sequence[float], solved_at: Sequence[float]) -> list[bool]:
    """Return whether each answer solves its task."""
    return [reward >= enough for reward, enough in zip(rewards, solved_at, strict=True)]
