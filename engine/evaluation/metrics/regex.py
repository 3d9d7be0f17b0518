"""Pattern: share of answers in which a regular expression is found."""

import datasets
import evaluate

from engine.patterns import PATTERN_LIMIT_S, compile_pattern

_DESCRIPTION = "Share of predictions in which a pattern fits somewhere; a dot matches line feeds too."
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    pattern (str): Regular expression; by default it fits everywhere.
Returns:
    regex (float): Between 0 and 1.
"""


class Regex(evaluate.Metric):
    """Look for the pattern in each answer."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], pattern: str = "") -> dict[str, float]:
        compiled = compile_pattern(pattern)
        found = [compiled.search(text, timeout=PATTERN_LIMIT_S) is not None for text in predictions]
        return {"regex": sum(found) / len(found)}
