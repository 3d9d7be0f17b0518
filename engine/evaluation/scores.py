"""Numbers from sums, answers, labels, tags and rewards, through the package's `evaluate` modules.

Importing `evaluate` takes five seconds, so the modules are imported by the functions that need them.
"""

import tempfile
from collections.abc import Collection, Sequence
from typing import Any

from engine.catalog.metrics import METRICS
from engine.data.cleaning.personal import hide_secrets
from engine.evaluation.measurement import Confusion


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


def score_answers(texts: Sequence[str], expected: Sequence[str], metrics: Collection[str]) -> dict[str, float]:
    """Return what generated answers score against the expected ones, in those numbers that `metrics` asks for."""
    from engine.evaluation.metrics.bleu import Bleu
    from engine.evaluation.metrics.chrf import Chrf
    from engine.evaluation.metrics.exact_match import ExactMatch
    from engine.evaluation.metrics.rouge import Rouge

    if not texts:
        return {}
    modules = {"exact_match": ExactMatch, "rouge": Rouge, "bleu": Bleu, "chrf": Chrf}
    values: dict[str, float] = {}
    for choice, module in modules.items():
        if choice in metrics:
            values |= _compute(module, texts, expected)
    values |= _error_rates(texts, expected, metrics)
    names = {metric.name for metric in METRICS}
    return {name: value for name, value in values.items() if name in names}


def _error_rates(texts: Sequence[str], expected: Sequence[str], metrics: Collection[str]) -> dict[str, float]:
    """Return WER and CER where they are asked for and something is expected: an error rate of nothing is no number."""
    if not {"wer", "cer"}.intersection(metrics) or not any(right.strip() for right in expected):
        return {}
    from engine.evaluation.metrics.cer import Cer
    from engine.evaluation.metrics.wer import Wer

    values: dict[str, float] = {}
    for choice, module in {"wer": Wer, "cer": Cer}.items():
        if choice in metrics:
            values |= _compute(module, texts, expected)
    return values


def score_checked(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return the mean of what a check says of each answer (`engine.evaluation.checked_answers`).

    Args:
        name: Name of the metric.
        values: One number an answer; 1 or 0 where it fits or not.
    """
    from engine.evaluation.metrics.metric_file import MetricFile

    # Checks with a time limit have been made once for each row: the sum is all that is left to do.
    mean = _compute(MetricFile, values, None)["own_score"]
    return {name: mean}


def row_scores(name: str, texts: Sequence[str], expected: Sequence[str]) -> list[float]:
    """Return one score for each generated answer; their mean is the metric, or near it for `bleu` and `chrf`.

    Args:
        name: `exact_match`, `rouge1`, `rougeL`, `bleu` or `chrf`.
        texts: Answers of the model.
        expected: Answers in the data.
    """
    from engine.evaluation.metrics.bleu import row_bleu
    from engine.evaluation.metrics.chrf import row_chrf
    from engine.evaluation.metrics.exact_match import normalise
    from engine.evaluation.metrics.rouge import row_rouge

    match name:
        case "exact_match":
            return [float(normalise(text) == normalise(right)) for text, right in zip(texts, expected, strict=True)]
        case "bleu":
            return row_bleu(texts, expected)
        case "chrf":
            return row_chrf(texts, expected)
        case _:
            return [row[name] for row in row_rouge(texts, expected)]


def score_labels(
    predicted: Sequence[str] | Sequence[Collection[str]],
    expected: Sequence[str] | Sequence[Collection[str]],
    labels: Sequence[str],
    metrics: Collection[str],
    *,
    multi_label: bool = False,
) -> tuple[dict[str, float], Confusion | None]:
    """Return accuracy, macro and micro F1, those of them that `metrics` asks for, and the confusion matrix.

    Args:
        predicted: The label of each row; with `multi_label` its labels, possibly none.
        expected: The same, as in the data.
        labels: Labels that the model can give, in the order of the matrix. A label of the data beyond them can only be
            missed; it comes after them.
        metrics: Names as in `evaluation.metrics`; others are ignored.
        multi_label: Rows have any number of labels.

    Returns:
        `{name: value}` and the matrix; nothing and None where there is no row.
    """
    from engine.evaluation.metrics.accuracy import Accuracy
    from engine.evaluation.metrics.confusion import Confusion as ConfusionModule
    from engine.evaluation.metrics.f1_macro import F1Macro
    from engine.evaluation.metrics.f1_micro import F1Micro

    if not expected:
        return {}, None
    read = _indicators if multi_label else _indices
    order = {label: place for place, label in enumerate(dict.fromkeys([*labels, *_all_labels(expected, multi_label)]))}
    given, wanted = read(predicted, order), read(expected, order)
    config = "multilabel" if multi_label else None
    values: dict[str, float] = {}
    for choice, module in {"accuracy": Accuracy, "f1_macro": F1Macro, "f1_micro": F1Micro}.items():
        if choice in metrics:
            values |= _compute(module, given, wanted, config=config)
    counts = _compute(ConfusionModule, given, wanted, config=config, num_labels=len(order))["counts"]
    return values, _confusion(list(order), counts, multi_label=multi_label)


def score_tags(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]], metrics: Collection[str]
) -> dict[str, float]:
    """Return precision, recall and F1 of entities, where `metrics` asks for them.

    Args:
        predicted: Tags of each row, one for each word of the data.
        expected: The same, as in the data.
        metrics: Names as in `evaluation.metrics`; others are ignored.

    Raises:
        ValueError: A row has another number of predicted than of expected tags.
    """
    from engine.evaluation.metrics.entity_f1 import EntityF1

    if not expected or "entity_f1" not in metrics:
        return {}
    return _compute(EntityF1, *([list(map(_storable, row)) for row in rows] for rows in (predicted, expected)))


def score_pairs(chosen: Sequence[float], rejected: Sequence[float], metrics: Collection[str]) -> dict[str, float]:
    """Return reward accuracy and margin of pairs, those of them that `metrics` asks for.

    Args:
        chosen: Reward of the chosen answer of each pair.
        rejected: Reward of its rejected answer.
        metrics: Names as in `evaluation.metrics`; others are ignored.
    """
    from engine.evaluation.metrics.reward_accuracy import RewardAccuracy
    from engine.evaluation.metrics.reward_margin import RewardMargin

    if not chosen:
        return {}
    values: dict[str, float] = {}
    for choice, module in {"reward_accuracy": RewardAccuracy, "reward_margin": RewardMargin}.items():
        if choice in metrics:
            values |= _compute(module, chosen, rejected)
    return values


def score_wins(ours: Sequence[float], base: Sequence[float], metrics: Collection[str]) -> dict[str, float]:
    """Return the win rate against the base model, where `metrics` asks for it.

    Args:
        ours: Score of the model's answer to each prompt; any score where more is better.
        base: Score of the base model's answer to it.
        metrics: Names as in `evaluation.metrics`; others are ignored.
    """
    from engine.evaluation.metrics.win_rate import WinRate

    return _compute(WinRate, ours, base) if ours and "win_rate" in metrics else {}


def score_completions(
    rewards: Sequence[float],
    lengths: Sequence[int],
    kl_sums: Sequence[float],
    solved_at: float,
    metrics: Collection[str],
    *,
    told: Sequence[float] | None = None,
) -> dict[str, float]:
    """Return reward, length, KL and solved rate of written answers, those of them that `metrics` asks for.

    Args:
        rewards: Reward of each answer.
        lengths: Its tokens.
        kl_sums: Its KL to the base model, summed over tokens, in nats (`engine.evaluation.metrics.kl.row_kl`).
        solved_at: Reward from which an answer counts as solved.
        metrics: Names as in `evaluation.metrics`; others are ignored.
        told: What of each answer is held against `solved_at`; its reward when None.
    """
    from engine.evaluation.metrics.completion_length import CompletionLength
    from engine.evaluation.metrics.kl import Kl
    from engine.evaluation.metrics.reward import Reward
    from engine.evaluation.metrics.solved_rate import SolvedRate

    if not rewards:
        return {}
    parts: dict[str, tuple[Any, Sequence[Any], Sequence[Any] | None]] = {
        "reward": (Reward, rewards, None),
        "solved_rate": (SolvedRate, rewards if told is None else told, [solved_at] * len(rewards)),
        "kl": (Kl, kl_sums, lengths),
        "completion_length": (CompletionLength, lengths, None),
    }
    values: dict[str, float] = {}
    for choice, (module, predictions, references) in parts.items():
        if choice in metrics:
            values |= _compute(module, predictions, references)
    return values


def _all_labels(expected: Sequence[Any], multi_label: bool) -> list[str]:
    return [label for row in expected for label in row] if multi_label else list(expected)


def _indices(rows: Sequence[Any], order: dict[str, int]) -> list[int]:
    return [order[label] for label in rows]


def _indicators(rows: Sequence[Any], order: dict[str, int]) -> list[list[int]]:
    return [[int(label in row) for label in order] for row in rows]


def _confusion(labels: list[str], counts: list[Any], *, multi_label: bool) -> Confusion:
    """Return the matrix as it is kept: of many labels few pairs ever occur."""
    labels = [hide_secrets(label) for label in labels]
    if multi_label:
        return Confusion(labels, per_label=[[*absent, *there] for absent, there in counts])
    cells = [
        [expected, given, count] for expected, row in enumerate(counts) for given, count in enumerate(row) if count
    ]
    return Confusion(labels, cells=cells)


def _storable(value: Any) -> Any:
    """Return text as UTF-8 can carry it: Arrow refuses half a surrogate pair, which data may hold."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _compute(
    module: Any,
    predictions: Sequence[Any],
    references: Sequence[Any] | None,
    *,
    config: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    inputs = {"predictions": list(map(_storable, predictions))}
    if references is not None:
        inputs["references"] = list(map(_storable, references))
    # `evaluate` makes a folder for its intermediate file even when that is kept in memory.
    with tempfile.TemporaryDirectory(prefix="ftwizard-metric-") as folder:
        metric = module(config_name=config, keep_in_memory=True, cache_dir=folder)
        result: dict[str, Any] = metric.compute(**inputs, **settings)
    return result
