"""Rows as a measurement keeps them: what each adds to which numbers. Light: readers of reports import it too."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine.evaluation.evidence import Kind, RowNumbers


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Numbers that come from the same parts of the same rows.

    Attributes:
        metrics: `{name: how sums over rows become it}`.
        ids: Name of each row, none twice.
        parts: What each row adds, as `engine.evaluation.evidence.RowNumbers` reads it.
    """

    metrics: dict[str, Kind]
    ids: list[str]
    parts: list[list[float]] = field(default_factory=list)


def rows_of(measurement: Mapping[str, Any], only_of: str = "") -> dict[str, RowNumbers]:
    """Return `{metric: what each row adds}` of a measurement as it was loaded; nothing where it holds none.

    Args:
        measurement: From `engine.evaluation.measurement.load_measurement`.
        only_of: The one metric that is asked for; all of them when empty.

    Raises:
        ValueError: What it holds are no such groups.
    """
    found: dict[str, RowNumbers] = {}
    try:
        for group in measurement.get("rows", ()):
            for name, kind in group["metrics"].items():
                if only_of and name != only_of:
                    continue
                width = 5 if kind == "macro_f1" else len(group["parts"][0])
                parts = np.asarray(group["parts"], dtype=np.float64).reshape(-1, width)
                found[name] = RowNumbers(kind, tuple(group["ids"]), parts)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"the rows of a measurement cannot be read: {type(error).__name__}") from error
    return found


def named(ids: Sequence[str]) -> list[str]:
    """Return the names with later ones of the same row numbered: a long text is measured in several windows."""
    seen: Counter[str] = Counter()
    names = []
    for name in ids:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return names


def only(groups: Sequence[RowGroup], names: Collection[str]) -> list[RowGroup]:
    """Return the groups with those of their metrics that were measured."""
    kept = ({name: kind for name, kind in one.metrics.items() if name in names} for one in groups)
    return [replace(one, metrics=metrics) for one, metrics in zip(groups, kept, strict=True) if metrics]
