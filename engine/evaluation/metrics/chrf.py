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


def chrf_counts(predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
    """Return what each row adds to chrF: for runs of 1 to 6 characters how many are written, expected and both."""
    # Public calls give the score alone; this is what sacreBLEU's own significance tests use.
    counts: list[list[float]] = CHRF()._extract_corpus_statistics(list(predictions), [list(references)])
    return counts


def chrf_of_counts(sums: Sequence[float]) -> float:
    """Return chrF of the sums of `chrf_counts` over rows, as sacreBLEU gives it for all of them at once."""
    return float(CHRF()._compute_score_from_stats(list(sums)).score) / 100
