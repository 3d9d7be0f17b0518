"""Numbers from sums and answers, through the package's `evaluate` modules.

Importing `evaluate` takes five seconds, so the modules are imported by the functions that need them.
"""

import tempfile
from collections.abc import Sequence
from typing import Any

from engine.catalog.metrics import METRICS


def score_sums(losses: Sequence[float], right: Sequence[int], tokens: Sequence[int]) -> dict[str, float]:
    """Return loss, perplexity and token accuracy of a teacher-forced pass.

    Args:
        losses: Summed cross-entropy per row, in nats.
        right: Tokens ranked first per row.
        tokens: Trained tokens per row; rows without any must have been left out.
    """
    from engine.evaluation.metrics.perplexity import Perplexity
    from engine.evaluation.metrics.token_accuracy import TokenAccuracy

    if not tokens:
        return {}
    return _compute(Perplexity, losses, tokens) | _compute(TokenAccuracy, right, tokens)


def score_answers(texts: Sequence[str], expected: Sequence[str], metrics: Sequence[str]) -> dict[str, float]:
    """Return exact match and ROUGE of generated answers, those of them that `metrics` asks for."""
    from engine.evaluation.metrics.exact_match import ExactMatch
    from engine.evaluation.metrics.rouge import Rouge

    if not texts:
        return {}
    values: dict[str, float] = {}
    if "exact_match" in metrics:
        values |= _compute(ExactMatch, texts, expected)
    if "rouge" in metrics:
        values |= _compute(Rouge, texts, expected)
    names = {metric.name for metric in METRICS}
    return {name: value for name, value in values.items() if name in names}


def row_scores(name: str, texts: Sequence[str], expected: Sequence[str]) -> list[float]:
    """Return one score for each generated answer, whose mean is the metric.

    Args:
        name: `exact_match`, `rouge1` or `rougeL`.
        texts: Answers of the model.
        expected: Answers in the data.
    """
    from engine.evaluation.metrics.exact_match import normalise
    from engine.evaluation.metrics.rouge import row_rouge

    if name == "exact_match":
        return [float(normalise(text) == normalise(right)) for text, right in zip(texts, expected, strict=True)]
    return [row[name] for row in row_rouge(texts, expected)]


def _compute(module: Any, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    # `evaluate` makes a folder for its intermediate file even when that is kept in memory.
    with tempfile.TemporaryDirectory(prefix="ftwizard-metric-") as folder:
        metric = module(keep_in_memory=True, cache_dir=folder)
        result: dict[str, float] = metric.compute(predictions=list(predictions), references=list(references))
    return result
