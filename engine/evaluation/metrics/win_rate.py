"""Win rate: share of prompts whose answer a score prefers to the base model's."""

import datasets
import evaluate

from engine.evaluation.metrics.reward_accuracy import row_wins

_DESCRIPTION = "Share of prompts for which the model's answer scores higher than the base model's; a tie counts half."
_INPUTS = """
Args:
    predictions (list of float): Scores of the model's answers.
    references (list of float): Scores of the base model's answers to the same prompts.
Returns:
    win_rate (float): Between 0 and 1; 0.5 is no better than the base. Not a number where a score is none.
"""


class WinRate(evaluate.Metric):
    """Average over prompts."""

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
        return {"win_rate": sum(row_wins(predictions, references)) / len(predictions)}
