"""chrF of a whole set of answers, by sacreBLEU."""

from collections.abc import Sequence

import datasets
import evaluate
from sacrebleu.metrics.chrf import CHRF

_DESCRIPTION = (
    "F2 of runs of one to six characters, counted over all rows (Popović 2015), as sacreBLEU computes it by default. "
    "It needs no words, and so serves scripts without spaces and languages with many endings."
)
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers.
Returns:
    chrf (float): Between 0 and 1.
"""


class Chrf(evaluate.Metric):
    """Count over all rows, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"chrf": CHRF().corpus_score(list(predictions), [list(references)]).score / 100}


def row_chrf(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return chrF of every row on its own."""
    scorer = CHRF()
    return [
        scorer.sentence_score(prediction, [reference]).score / 100
        for prediction, reference in zip(predictions, references, strict=True)
    ]
