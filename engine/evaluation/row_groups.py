"""What each row of a measurement adds to its numbers: kept beside them, so that changes can be judged row by row.

Each function returns groups whose sums over rows give back the very numbers of `engine.evaluation.scores`.
"""

from collections.abc import Collection, Mapping, Sequence

from engine.evaluation.evidence import Kind
from engine.evaluation.kept_rows import RowGroup, named
from engine.evaluation.scores import row_scores
from engine.evaluation.scoring import RowScore

LOSS: dict[str, Kind] = {"loss": "ratio", "perplexity": "exp_ratio"}


def group(metrics: Mapping[str, Kind], ids: Sequence[str], parts: Sequence[Sequence[float]]) -> list[RowGroup]:
    """Return one group, or none where there is no row or nothing to give."""
    if not ids or not metrics:
        return []
    return [RowGroup(dict(metrics), named(ids), [[float(part) for part in row] for row in parts])]


def mean_group(name: str, ids: Sequence[str], values: Sequence[float]) -> list[RowGroup]:
    """Return the group of a number that is the mean of one value a row."""
    return group({name: "ratio"}, ids, [(value, 1) for value in values])


def token_groups(
    ids: Sequence[str],
    scores: Sequence[RowScore],
    losses: Mapping[str, Kind] = LOSS,
    accuracy: str = "token_accuracy",
) -> list[RowGroup]:
    """Return the groups of a teacher-forced pass.

    Args:
        ids: Names of the rows.
        scores: Their sums.
        losses: Numbers that come from the loss.
        accuracy: The number that comes from tokens ranked first; empty for none.
    """
    right: dict[str, Kind] = {accuracy: "ratio"} if accuracy else {}
    return [
        *group(losses, ids, [(score.loss, score.tokens) for score in scores]),
        *group(right, ids, [(score.right, score.tokens) for score in scores]),
    ]


def answer_groups(
    ids: Sequence[str], texts: Sequence[str], expected: Sequence[str], names: Collection[str]
) -> list[RowGroup]:
    """Return the groups of written answers, of those metrics that `names` holds."""
    from engine.evaluation.metrics.bleu import bleu_counts
    from engine.evaluation.metrics.chrf import chrf_counts

    groups: list[RowGroup] = []
    for name in ("exact_match", "rouge1", "rougeL"):
        if name in names:
            groups += mean_group(name, ids, row_scores(name, texts, expected))
    if "bleu" in names:
        groups += group({"bleu": "bleu"}, ids, bleu_counts(texts, expected))
    if "chrf" in names:
        groups += group({"chrf": "chrf"}, ids, chrf_counts(texts, expected))
    return groups + _error_groups(ids, texts, expected, names)


def _error_groups(
    ids: Sequence[str], texts: Sequence[str], expected: Sequence[str], names: Collection[str]
) -> list[RowGroup]:
    if not {"wer", "cer"}.intersection(names):
        return []
    from engine.evaluation.metrics.cer import cer_counts
    from engine.evaluation.metrics.wer import wer_counts

    groups: list[RowGroup] = []
    for name, counts in (("wer", wer_counts), ("cer", cer_counts)):
        if name in names:
            groups += group({name: "ratio"}, ids, counts(texts, expected))
    return groups


def label_groups(
    ids: Sequence[str], given: Sequence[Sequence[int]], right: Sequence[Sequence[int]], names: Collection[str]
) -> list[RowGroup]:
    """Return the groups of classes, of those metrics that `names` holds.

    Args:
        ids: Names of the rows.
        given: Numbers of the classes that the model gives to each row.
        right: Numbers of those that are right.
        names: Metrics.
    """
    pairs = [(set(one), set(other)) for one, other in zip(given, right, strict=True)]
    groups: list[RowGroup] = []
    if "accuracy" in names:
        groups += mean_group("accuracy", ids, [float(one == other) for one, other in pairs])
    if "f1_micro" in names:
        groups += group({"f1_micro": "f1"}, ids, [(len(one & other), len(one), len(other)) for one, other in pairs])
    if "f1_macro" in names and ids:
        entries = [
            [float(row), float(label), float(label in one & other), float(label in one), float(label in other)]
            for row, (one, other) in enumerate(pairs)
            for label in sorted(one | other)
        ]
        groups.append(RowGroup({"f1_macro": "macro_f1"}, named(ids), entries))
    return groups


def tag_groups(
    ids: Sequence[str], given: Sequence[Sequence[str]], right: Sequence[Sequence[str]], names: Collection[str]
) -> list[RowGroup]:
    """Return the groups of entities, of those metrics that `names` holds.

    Args:
        ids: Names of the rows.
        given: Tags that the model gives, one a word.
        right: Tags of the data.
        names: Metrics.
    """
    from engine.evaluation.metrics.entity_f1 import row_entities

    counts = row_entities(given, right)
    groups: list[RowGroup] = []
    for name, places, kind in _OF_ENTITIES:
        if name in names:
            groups += group({name: kind}, ids, [[row[place] for place in places] for row in counts])
    return groups


_OF_ENTITIES: tuple[tuple[str, tuple[int, ...], Kind], ...] = (
    ("entity_f1", (0, 1, 2), "f1"),
    ("entity_precision", (0, 1), "ratio"),
    ("entity_recall", (0, 2), "ratio"),
)


def pair_groups(
    ids: Sequence[str], chosen: Sequence[float], rejected: Sequence[float], names: Collection[str]
) -> list[RowGroup]:
    """Return the groups of pairs, of those metrics that `names` holds.

    Args:
        ids: Names of the pairs.
        chosen: Reward of the chosen answer of each.
        rejected: Reward of its rejected answer.
        names: Metrics.
    """
    from engine.evaluation.metrics.reward_accuracy import row_wins

    groups: list[RowGroup] = []
    if "reward_accuracy" in names:
        groups += mean_group("reward_accuracy", ids, row_wins(chosen, rejected))
    if "reward_margin" in names:
        groups += mean_group("reward_margin", ids, [one - other for one, other in zip(chosen, rejected, strict=True)])
    return groups


def win_groups(ids: Sequence[str], ours: Sequence[float], base: Sequence[float]) -> list[RowGroup]:
    """Return the group of the win rate: scores of the model's answers against those of the base model's."""
    from engine.evaluation.metrics.reward_accuracy import row_wins

    return mean_group("win_rate", ids, row_wins(ours, base))
