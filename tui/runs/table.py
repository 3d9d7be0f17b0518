"""The table of runs as plain data: order, filter, marks, and what each line says. No widget is touched here."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from textual.content import Content

from engine.runs.directory import plain_name
from engine.runs.lineage import family_order, parent_name
from engine.runs.references import base_words
from engine.text import clean_line
from tui.backend import RunRow
from tui.widgets.help_line import Explanation
from tui.widgets.labels import age, fit, muted, safe, state_label

SortKey = Literal["started", "run", "state", "steps", "loss", "held-out", "method", "from"]
SORTS: tuple[SortKey, ...] = ("started", "run", "state", "steps", "loss", "held-out", "method", "from")
WIDE = 100
"""Columns of the terminal from which method and lineage have columns of their own."""
_NUMBER, _STATE, _STEPS, _AGE, _METHOD, _FROM = 9, 12, 12, 13, 10, 24
_FAMILY_SHOWN = 3


@dataclass(frozen=True, slots=True)
class TableState:
    """What a person did to the table.

    Attributes:
        sort: Column that orders the runs.
        turned: In the other direction.
        words: Only runs with all these words.
        marked: Folder names of marked runs, in the order of marking.
    """

    sort: SortKey = "started"
    turned: bool = False
    words: str = ""
    marked: tuple[str, ...] = ()

    def next_sort(self) -> "TableState":
        """Return it ordered by the next column."""
        return replace(self, sort=SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)], turned=False)

    def with_mark_turned(self, run_id: str) -> "TableState":
        """Return it with a run marked, or no longer marked."""
        kept = tuple(name for name in self.marked if name != run_id)
        return replace(self, marked=kept if run_id in self.marked else (*self.marked, run_id))


@dataclass(frozen=True, slots=True)
class Family:
    """Who started from whom.

    Attributes:
        parents: `{run: the run it started from}`, empty words for other models.
        children: `{run: runs that started from it}`.
        names: `{run: its name for people}`.
    """

    parents: Mapping[str, str] = field(default_factory=dict)
    children: Mapping[str, Sequence[str]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


def family_of(runs: Sequence[RunRow]) -> Family:
    """Return the lineage of all runs."""
    parents = {run.run_id: parent_name(run.base) for run in runs}
    children: dict[str, list[str]] = {}
    for run in runs:
        children.setdefault(parents[run.run_id], []).append(run.run_id)
    return Family(parents, children, {run.run_id: plain_name(run.run_id) for run in runs})


def arranged(runs: Sequence[RunRow], state: TableState, family: Family) -> list[tuple[RunRow, int]]:
    """Return the runs that are shown, in order, each with its depth; the depth is 0 unless ordered by lineage.

    Args:
        runs: The newest first; runs that are equal in a column keep this order.
        state: Order and filter.
        family: Lineage of all runs.
    """
    found = [run for run in runs if _fits(run, state.words)]
    if state.sort == "from":
        by_id = {run.run_id: run for run in found}
        # Oldest first, so that what came of a run stands in the order in which it came.
        names = [run.run_id for run in (found if state.turned else reversed(found))]
        return [(by_id[name], depth) for name, depth in family_order(names, family.parents)]
    key, numbers_last = _KEYS[state.sort]
    known = [run for run in found if not numbers_last or _is_number(key(run))]
    unknown = [run for run in found if numbers_last and not _is_number(key(run))]
    known.sort(key=key, reverse=state.turned != (state.sort == "started"))
    return [(run, 0) for run in (*known, *unknown)]


def _share(run: RunRow) -> float | None:
    return run.step / run.total_steps if run.step and run.total_steps else None


_KEYS: dict[str, tuple[Callable[[RunRow], Any], bool]] = {
    "started": (lambda run: run.changed_at, False),
    "run": (lambda run: clean_line(run.name).casefold(), False),
    "state": (lambda run: run.state, False),
    "steps": (_share, True),
    "loss": (lambda run: run.loss, True),
    "held-out": (lambda run: run.held_out_loss, True),
    "method": (lambda run: run.method, False),
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _fits(run: RunRow, words: str) -> bool:
    text = " ".join((run.run_id, run.name, run.state, run.objective, run.method, run.base)).casefold()
    return all(word in text for word in words.casefold().split())


def header(state: TableState, width: int) -> Content:
    """Return the head of the table; an arrow stands at the column that orders it."""
    arrow = "▼" if state.turned != (state.sort == "started") else "▲"
    parts: list[tuple[str, str]] = [("   ", "")]
    for name, size in _columns(width):
        sorted_by = name == state.sort
        text = f"{name.capitalize()} {arrow}" if sorted_by else name.capitalize()
        right = name in ("loss", "held-out")
        parts.append((f"{text:>{size - 1}} " if right else f"{text:<{size}}", "bold" if sorted_by else "$text-muted"))
    return Content.assemble(*parts)


def hidden_order(state: TableState, width: int) -> str:
    """Return what orders the runs where no column shows it; empty where one does."""
    shown = width >= WIDE or state.sort not in ("method", "from")
    return "" if shown else {"method": "by method", "from": "by lineage"}[state.sort]


def _columns(width: int) -> list[tuple[str, int]]:
    columns = [("state", _STATE + 2), ("run", 0), ("steps", _STEPS), ("loss", _NUMBER), ("held-out", _NUMBER + 2)]
    columns += [("method", _METHOD), ("from", _FROM)] if width >= WIDE else []
    columns.append(("started", _AGE))
    name_width = max(12, width - 4 - sum(size for _, size in columns))
    return [(name, size or name_width) for name, size in columns]


def line(run: RunRow, depth: int, *, marked: bool, family: Family, now: float, width: int) -> Content:
    """Return one run as a line of the table."""
    parts: list[Content | tuple[str, str]] = [(" ● " if marked else "   ", "bold $accent")]
    for name, size in _columns(width):
        parts.append(_cell(run, name, size, depth, family, now))
    return Content.assemble(*parts)


def _cell(run: RunRow, name: str, size: int, depth: int, family: Family, now: float) -> Content | tuple[str, str]:
    match name:
        case "state":
            return state_label(run.state, width=size - 2)
        case "run":
            tree = "  " * (depth - 1) + "└ " if depth else ""
            return safe(fit(tree + clean_line(run.name), size - 1) + " ")
        case "steps":
            steps = f"{run.step} of {run.total_steps}" if run.step is not None and run.total_steps else ""
            return muted(fit(steps, size))
        case "loss" | "held-out":
            value = run.loss if name == "loss" else run.held_out_loss
            return (f"{number(value):>{size - 1}} ", "")
        case "method":
            return muted(fit(clean_line(run.method), size - 1) + " ")
        case "from":
            parent = family.parents.get(run.run_id, "")
            words = f"← {family.names.get(parent, plain_name(parent))}" if parent else base_words(run.base)
            return muted(fit(clean_line(words), size - 1) + " ")
        case _:
            return muted(age(max(0.0, now - run.changed_at)))


def number(value: float | None) -> str:
    """Return a loss in four digits; empty when there is none."""
    return "" if not isinstance(value, int | float) else f"{value:.4g}"


def explanation(run: RunRow, family: Family) -> Explanation:
    """Return what the table has no room for: the whole id, what was trained, and the run's relatives."""
    what = ", ".join(filter(None, (run.objective, run.method, base_words(run.base) if run.base else "")))
    parent, children = family.parents.get(run.run_id, ""), family.children.get(run.run_id, ())
    words = [f"{run.run_id}." if run.run_id != run.name else "", f"{what}." if what else ""]
    if parent:
        gone = "" if parent in family.names else ", which is not among the runs"
        words.append(f"Started from {parent}{gone}.")
    if children:
        more = f" and {len(children) - _FAMILY_SHOWN} more" if len(children) > _FAMILY_SHOWN else ""
        words.append(f"Led to {', '.join(children[:_FAMILY_SHOWN])}{more}.")
    return Explanation(run.name, " ".join(filter(None, words)))
