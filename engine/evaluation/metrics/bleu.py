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


def bleu_counts(predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
    """Return what each row adds to BLEU: length, expected length, right runs of 1 to 4 words, all such runs."""
    scorer = BLEU(effective_order=True)
    scores = [scorer.sentence_score(text, [expected]) for text, expected in zip(predictions, references, strict=True)]
    return [[score.sys_len, score.ref_len, *score.counts, *score.totals] for score in scores]


def bleu_of_counts(sums: Sequence[float]) -> float:
    """Return BLEU of the sums of `bleu_counts` over rows, as sacreBLEU gives it for all of them at once."""
    length, expected, *runs = sums
    order = len(runs) // 2
    score = BLEU.compute_bleu(
        correct=list(runs[:order]),
        total=list(runs[order:]),
        sys_len=int(length),
        ref_len=int(expected),
        smooth_method="exp",
    )
    return float(score.score) / 100
