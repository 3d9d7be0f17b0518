"""BLEU of a whole set of answers, by sacreBLEU."""

from collections.abc import Sequence

import datasets
import evaluate
from sacrebleu.metrics.bleu import BLEU

_DESCRIPTION = (
    "Geometric mean of the precision of runs of one to four words, counted over all rows, with a penalty for answers "
    "shorter than expected (Papineni 2002), as sacreBLEU computes it by default (Post 2018)."
)
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers.
Returns:
    bleu (float): Between 0 and 1.
"""


class Bleu(evaluate.Metric):
    """Count over all rows, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {"bleu": BLEU().corpus_score(list(predictions), [list(references)]).score / 100}


def row_bleu(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Return sentence BLEU of every row; only as long runs of words count as the answer has."""
    scorer = BLEU(effective_order=True)
    return [
        scorer.sentence_score(prediction, [reference]).score / 100
        for prediction, reference in zip(predictions, references, strict=True)
    ]
