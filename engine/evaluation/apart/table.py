"""The numbers of one measurement with how sure they are, as tables show them."""

from collections.abc import Mapping
from typing import Any

from engine.catalog.metrics import Metric
from engine.evaluation.evidence import Interval, RowNumbers, interval_of
from engine.evaluation.kept_rows import rows_of
from engine.evaluation.measures import known_metrics
from engine.evaluation.report_metrics import margin_text
from engine.runs.events import word_to_number


def metric_table(measurement: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the metrics of a measurement in the catalogue's order.

    Args:
        measurement: As its file has it.

    Returns:
        `{name, title, better, value, text, interval, interval_text, margin_text}` of each.
    """
    values = {name: word_to_number(value) for name, value in measurement.get("metrics", {}).items()}
    try:
        rows = rows_of(measurement)
    except ValueError:
        rows = {}
    return [_line(metric, values[metric.name], rows.get(metric.name)) for metric in known_metrics(values)]


def _line(metric: Metric, value: float, rows: RowNumbers | None) -> dict[str, Any]:
    interval = interval_of(rows) if rows is not None else None
    return {
        "name": metric.name,
        "title": metric.title,
        "better": metric.better,
        "value": value,
        "text": metric.format(value),
        "interval": None if interval is None else [interval.low, interval.high],
        "interval_text": _ends(metric, interval),
        "margin_text": margin_text(metric, interval),
    }


def _ends(metric: Metric, interval: Interval | None) -> str:
    return "" if interval is None else f"{metric.format(interval.low)} to {metric.format(interval.high)}"
