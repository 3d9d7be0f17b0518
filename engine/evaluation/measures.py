"""What a change of a measured number means. Pure; the metrics themselves are described in `engine.catalog.metrics`."""

import math
from collections.abc import Iterable
from typing import Literal

from engine.catalog.metrics import METRICS, Metric

Direction = Literal["better", "worse", "same", "unknown"]

SAME_SHARE = 0.0005
"""Shares closer than this are called unchanged: they print as the same tenth of a per cent."""
SAME_RELATIVE = 0.001
"""Numbers closer than this share of the larger one are called unchanged."""


def default_metrics(objective: str) -> tuple[str, ...]:
    """Return the metrics of an objective: all for conversations, without generated ones for plain text."""
    if objective == "domain-adaptation":
        return ("perplexity", "token_accuracy")
    return ("perplexity", "token_accuracy", "exact_match", "rouge")


def direction(metric: Metric, before: float | None, after: float | None) -> Direction:
    """Say whether a change is an improvement for this metric; an infinite value is worse than any finite one."""
    if before is None or after is None or math.isnan(before) or math.isnan(after):
        return "unknown"
    if before == after:
        return "same"
    limit = SAME_SHARE if metric.kind == "share" else SAME_RELATIVE * max(abs(before), abs(after))
    if math.isfinite(limit) and abs(after - before) <= limit:
        return "same"
    return "better" if metric.improved(before, after) else "worse"


def known_metrics(names: Iterable[str]) -> list[Metric]:
    """Return the metrics of these names in the order of the catalogue."""
    wanted = set(names)
    return [metric for metric in METRICS if metric.name in wanted]
