"""The before/after table of a report: the numbers, how sure they are, and what may be called better or worse."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.catalog.metrics import Metric, find_metric
from engine.evaluation.evidence import Evidence, Interval, RowNumbers, compare, interval_of
from engine.evaluation.kept_rows import rows_of
from engine.evaluation.measures import Direction, direction, known_metrics

VERDICTS: dict[Direction, str] = {
    "better": "better",
    "worse": "worse",
    "same": "unchanged",
    "unclear": "no evidence",
    "unknown": "",
}
SURE = (
    "The 95 % interval says how far the number would move with other rows of the same kind (bootstrap). Better and "
    "worse are said where luck alone would show such a difference in less than one case of twenty; else there is no "
    "evidence."
)
_OUTCOMES = (
    "solved_rate", "win_rate", "reward_accuracy", "entity_f1", "accuracy", "exact_match", "rougeL", "chrf", "bleu",
)  # fmt: skip
_BESIDE = ("reward", "reward_margin", "f1_macro", "perplexity", "token_accuracy", "loss")
"""One number of what the model does and one of how sure it is say all that the others repeat; the first of each."""
_GENERAL = ("general_perplexity", "general_masked_perplexity")
_EVEN = 0.5
"""Share of wins of a model against itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one number between two measurements.

    Attributes:
        direction: What the change is; `unclear` where rows are too few or too different to call it anything.
        before: Where the first number lies with 95 % confidence; None where no rows are kept.
        after: The same of the second.
        evidence: What the shared rows say; None where no rows are kept on both sides.
    """

    direction: Direction
    before: Interval | None = None
    after: Interval | None = None
    evidence: Evidence | None = None


def judge(metric: Metric, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return what happened to a number between two measurements as `load_measurement` gives them."""
    left, right = _value(before, metric), _value(after, metric)
    ours, theirs = _rows(after, metric), _rows(before, metric)
    if metric.name == "win_rate" and ours is not None:
        # It holds the models against each other by itself; without a difference each wins half.
        left, theirs = _EVEN, RowNumbers("ratio", ours.ids, np.asarray([[_EVEN, 1.0]] * len(ours.ids)))
    rough = direction(metric, left, right)
    before_interval = interval_of(theirs) if theirs is not None and metric.name != "win_rate" else None
    after_interval = interval_of(ours) if ours is not None else None
    if ours is None or theirs is None or ours.kind != theirs.kind:
        return Change(rough, before_interval, after_interval)
    evidence = compare(theirs, ours, metric.better)
    return Change(_weighed(rough, evidence), before_interval, after_interval, evidence)


def _weighed(rough: Direction, evidence: Evidence) -> Direction:
    """Return the direction of a change with the evidence for it."""
    if rough not in ("better", "worse"):
        return rough
    match evidence.verdict:
        case "better" | "worse" as verdict:
            return verdict
        case "no evidence":
            return "unclear"
        case _:
            # Of one row, or of numbers that are none, nothing can be said either way.
            return "unclear" if evidence.num_rows else rough


def _rows(measurement: Mapping[str, Any], metric: Metric) -> RowNumbers | None:
    try:
        return rows_of(measurement, metric.name).get(metric.name)
    except ValueError:
        return None


def _value(measurement: Mapping[str, Any], metric: Metric) -> float | None:
    value: float | None = measurement.get("metrics", {}).get(metric.name)
    return value


def test_facts(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the test rows say, which decided nothing in the run; None where none were put aside or measured."""
    if not before and not after:
        return None
    names = {**before.get("metrics", {}), **after.get("metrics", {})}
    rows = [metric_row(metric, before, after) for metric in known_metrics(names)]
    one = after or before
    return {
        "metrics": rows,
        "num_rows": one.get("num_rows", 0),
        "num_tokens": one.get("num_tokens", 0),
        "num_generated": one.get("num_generated", 0),
        "headline": headline(rows),
    }


def metric_row(
    metric: Metric, before: dict[str, Any], after: dict[str, Any], few_shot: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return one line of the before/after table; `few_shot` is None where the base model was shown no examples."""
    left, prompted, right = (_value(one, metric) for one in (before, few_shot or {}, after))
    change = judge(metric, before, after)
    return {
        "name": metric.name,
        "title": metric.title,
        "summary": metric.summary,
        "before": left,
        "few_shot": prompted,
        "after": right,
        "before_text": metric.format(left),
        "few_shot_text": metric.format(prompted),
        "after_text": metric.format(right),
        "better": metric.better,
        "format": metric.kind,
        "direction": change.direction,
        "verdict": VERDICTS[change.direction],
        **_certainty(metric, change),
    }


def _certainty(metric: Metric, change: Change) -> dict[str, Any]:
    evidence = change.evidence
    return {
        "before_interval": _ends(change.before),
        "after_interval": _ends(change.after),
        "after_interval_text": _interval_text(metric, change.after),
        "after_margin_text": margin_text(metric, change.after),
        "difference": evidence.difference if evidence else None,
        "difference_interval": _ends(evidence.interval) if evidence else None,
        "p_value": evidence.p_value if evidence else None,
        "compared_rows": evidence.num_rows if evidence else 0,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _interval_text(metric: Metric, interval: Interval | None) -> str:
    return "" if interval is None else f"{metric.format(interval.low)} to {metric.format(interval.high)}"


def margin_text(metric: Metric, interval: Interval | None) -> str:
    """Return half of the interval's width, as `±1.2`; empty where it is no number."""
    half = math.nan if interval is None else (interval.high - interval.low) / 2
    if not math.isfinite(half):
        return ""
    if metric.kind == "share":
        return f"±{100 * half:.1f}"
    # More than two digits of an uncertainty say nothing.
    return f"±{half:,.0f}" if half >= 10 else f"±{half:.2g}"


def headline(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Return the one sentence that says what training did, with its direction: better, worse, mixed, same, unclear.

    Judged are what the model does (answers, labels, pairs) and how well it expects; they can disagree.
    """
    by_name = {row["name"]: row for row in rows if row["direction"] != "unknown"}
    told = [next((by_name[name] for name in names if name in by_name), None) for names in (_OUTCOMES, _BESIDE)]
    chosen = sorted(filter(None, told), key=lambda row: row["direction"] in ("same", "unclear"))
    if not chosen:
        return {
            "direction": "unknown",
            "text": "There is nothing to compare: the run was not measured before and after.",
        }
    overall = _overall({row["direction"] for row in chosen})
    opening = {
        "better": "The model learned",
        "worse": "The model got worse",
        "same": "Training changed nothing that was measured",
        "unclear": "There is no evidence that training changed what was measured",
        "mixed": "The model changed, and not only for the better",
    }[overall]
    return {"direction": overall, "text": f"{opening}: {' and '.join(_movement(row) for row in chosen)}."}


def with_forgetting(
    rows: list[dict[str, Any]], line: dict[str, str], vocabulary: int
) -> tuple[dict[str, str], dict[str, Any] | None]:
    """Return the headline with what the model forgets, and that on its own; None where general text was not measured.

    Args:
        rows: The table. Of a model that does not know general text, its verdict is taken out of it.
        line: From `headline`.
        vocabulary: Tokens that the model can choose from; one that expects a text no better than a uniform guess does
            not know it.
    """
    row = next((row for row in rows if row["name"] in _GENERAL), None)
    if row is None or row["direction"] == "unknown":
        return line, None
    if row["before"] >= vocabulary:
        row.update(direction="unknown", verdict="")
        text = "The base model expects general English no better than a guess: there is nothing to forget."
        return line, {"direction": "unknown", "text": text}
    facts = {"direction": row["direction"], "text": _forgetting_text(row)}
    if row["direction"] != "worse":
        return line, facts
    direction = "mixed" if line["direction"] == "better" else "worse"
    return {"direction": direction, "text": f"{line['text']} {facts['text']}"}, facts


def _forgetting_text(row: dict[str, Any]) -> str:
    numbers = f"from {row['before_text']} to {row['after_text']}"
    if row["direction"] != "worse":
        return f"Nothing is forgotten: the perplexity of general text went {numbers}."
    more = round(100 * (row["after"] / row["before"] - 1)) if math.isfinite(row["after"]) else None
    share = f", {more:,} % more" if more is not None else ""
    return f"It forgets what it knew: the perplexity of general text rose {numbers}{share}."


def _overall(directions: set[str]) -> str:
    told = directions - {"same", "unclear"}
    if not told:
        return "unclear" if "unclear" in directions else "same"
    return told.pop() if len(told) == 1 else "mixed"


def _movement(row: dict[str, Any]) -> str:
    title = find_metric(row["name"]).word
    if row["direction"] == "same":
        return f"{title} stayed at {row['after_text']}"
    if row["before"] is None:
        return f"{title} is {row['after_text']}"
    word = "rose" if row["after"] > row["before"] else "fell"
    luck = ", which luck explains" if row["direction"] == "unclear" else ""
    return f"{title} {word} from {row['before_text']} to {row['after_text']}{luck}"
