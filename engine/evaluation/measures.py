"""What a change of a measured number means. Pure; the metrics themselves are described in `engine.catalog.metrics`."""

import math
from collections.abc import Iterable
from typing import Literal

from engine.catalog.metrics import METRICS, Metric
from engine.catalog.objectives import Head, find_objective

Direction = Literal["better", "worse", "same", "unclear", "unknown"]
"""`unclear` is only said by `engine.evaluation.report_metrics`, which looks at the rows behind a number."""

SAME_SHARE = 0.0005
"""Shares closer than this are called unchanged: they print as the same tenth of a per cent."""
SAME_RELATIVE = 0.001
"""Numbers closer than this share of the larger one are called unchanged."""


def default_metrics(objective: str, head: Head = "causal-lm") -> tuple[str, ...]:
    """Return the metrics that fit an objective and a head; all of them are measured unless the recipe names some."""
    return find_objective(objective).metrics_with(head)


def direction(metric: Metric, before: float | None, after: float | None) -> Direction:
    """Say whether a change is an improvement for this metric: an infinite perplexity is worse than any finite one.

    A change is `unknown` where a value is missing, and where neither direction is better.
    """
    if before is None or after is None or math.isnan(before) or math.isnan(after):
        return "unknown"
    if before == after:
        return "same"
    relative = max(SAME_RELATIVE * max(abs(before), abs(after)), metric.tolerance * abs(before))
    limit = SAME_SHARE if metric.kind == "share" else relative
    if math.isfinite(limit) and abs(after - before) <= limit:
        return "same"
    if metric.better == "neither":
        return "unknown"
    return "better" if metric.improved(before, after) else "worse"


def known_metrics(names: Iterable[str]) -> list[Metric]:
    """Return the metrics of these names in the order of the catalogue."""
    wanted = set(names)
    return [metric for metric in METRICS if metric.name in wanted]
