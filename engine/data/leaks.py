"""Rows that a model would be judged on after it learned them: training rows that a held-out file has too."""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.duplicates import alike, drawn_keys, spoken
from engine.data.cleaning.near import MAX_ROWS, BandTable
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.row_keys import RowKeys
from engine.data.row_store import RowStore
from engine.data.rows import Tally
from engine.data.usable_rows import UsableRows
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import CleaningSection

BLOCKING_SHARE = 0.01
"""More held-out rows than this among the training rows are no slip: one of the files is the wrong one."""
_MAX_PAIRS_PER_ROW = 8
_PAIRS_AT_ONCE = 256


def drop_leaked(
    train: UsableRows, held_out: UsableRows, cleaning: CleaningSection, seed: int, dropped: Tally
) -> tuple[UsableRows, Outcome]:
    """Return the training rows that the model may learn from, and what was found.

    Rows that are equal to a held-out row are dropped, unless the recipe says to report them; rows that are nearly
    equal are dropped where it says `drop`.

    Args:
        train: Rows to learn from.
        held_out: Rows of the held-out file.
        cleaning: What the recipe says.
        seed: Seed of the near comparison.
        dropped: Rows left out are counted here, equal ones as `in_held_out`, others as `leaked_rows`.

    Raises:
        ProblemError: More than 1 % of the held-out rows are training rows, and the recipe does not say what to do.
    """
    action = cleaning.leaked_rows
    exact = _equal(train.keys, held_out.keys)
    if action == "block":
        _refuse_many(train.rows, held_out.rows, exact)
    near, num_skipped = _nearly(train, held_out, exact, seed) if cleaning.near_duplicates != "off" else ({}, 0)
    outcome = Outcome("leaked_rows", action)
    gone: list[int] = []
    for number, other in sorted({**near, **exact}.items()):
        row_id, other_id = train.rows.id(number), held_out.rows.id(other)
        if action == "report" or (number in near and action != "drop"):
            outcome.found(f"{row_id} {'=' if number in exact else 'like'} {other_id}")
            continue
        gone.append(number)
        if number in exact:
            dropped.add("in_held_out", row_id, f"equal to {other_id}")
        else:
            outcome.found(f"{row_id} like {other_id}")
            outcome.dropped += 1
            dropped.add("leaked_rows", row_id)
    _tell(outcome, len(exact) if action == "report" else 0, num_skipped)
    return train.only(np.setdiff1d(np.arange(len(train.rows)), gone)), outcome


def _equal(train: RowKeys, held_out: RowKeys) -> dict[int, int]:
    """Return `{training row: held-out row}` of equal rows."""
    return _same(train.values, held_out.values)


def _same(train: npt.NDArray[Any], held_out: npt.NDArray[Any]) -> dict[int, int]:
    """Return `{place: first place among others}` of the values that others hold too."""
    values, first = np.unique(held_out, return_index=True)
    nearest = np.minimum(np.searchsorted(values, train), max(0, len(values) - 1))
    found = np.flatnonzero(values[nearest] == train) if len(values) else np.zeros(0, np.int64)
    return dict(zip(found.tolist(), first[nearest[found]].tolist(), strict=True))


def _nearly(train: UsableRows, held_out: UsableRows, exact: dict[int, int], seed: int) -> tuple[dict[int, int], int]:
    """Return `{training row: held-out row}` of rows that differ in case and white space, or in a few words.

    Beside it the number of training rows that were not drawn for a comparison of their words.
    """
    found = {number: other for number, other in _same(train.taught, held_out.taught).items() if number not in exact}
    known = np.fromiter({**exact, **found}, np.int64)
    rest = np.setdiff1d(np.arange(len(train.rows)), known)
    draws = drawn_keys(train.taught, seed)
    drawn = np.sort(rest[np.argsort(draws[rest], kind="stable")[:MAX_ROWS]])
    # Held-out rows come first, so that every training row of a band is compared with one of them.
    table, first = BandTable(seed), len(held_out.rows)
    table.add(range(first), map(spoken, held_out.rows))
    table.add((first + drawn).tolist(), map(spoken, train.rows.only(drawn)))
    pairs = table.pairs()
    cross = (pairs[(pairs[:, 0] < first) & (pairs[:, 1] >= first)] - [0, first])[: _MAX_PAIRS_PER_ROW * len(drawn)]
    for start in range(0, len(cross), _PAIRS_AT_ONCE):
        some = [(one, other) for one, other in cross[start : start + _PAIRS_AT_ONCE].tolist() if other not in found]
        ones, others = [held_out.rows[one] for one, _ in some], [train.rows[other] for _, other in some]
        for (one, other), are_alike in zip(some, alike(ones, others), strict=True):
            if are_alike:
                found.setdefault(other, one)
    return found, len(rest) - len(drawn)


def _refuse_many(train: RowStore, held_out: RowStore, exact: dict[int, int]) -> None:
    leaked = set(exact.values())
    if len(leaked) <= BLOCKING_SHARE * len(held_out):
        return
    pairs = [f"{train.id(number)} = {held_out.id(other)}" for number, other in list(exact.items())[:5]]
    more = f" and {len(exact) - len(pairs):,} more" if len(exact) > len(pairs) else ""
    raise ProblemError(
        Problem(
            "data.leaked_rows",
            f"{len(leaked):,} of {len(held_out):,} held-out rows are training rows too, so the evaluation would be too "
            f"good: {', '.join(pairs)}{more}.",
            "Name a file with other rows, or set data.cleaning.leaked_rows: drop to take them out of training.",
            path="data.held_out",
        )
    )


def _tell(outcome: Outcome, num_equal: int, num_skipped: int) -> None:
    skipped = (
        f"; {rows(num_skipped)} {'was' if num_skipped == 1 else 'were'} not compared word for word"
        if num_skipped
        else ""
    )
    if not outcome.count:
        if skipped:
            outcome.message = f"No training row compared is nearly equal to a held-out row{skipped}."
        return
    near = outcome.count - num_equal
    parts = [f"{rows(num_equal)} equal to"] if num_equal else []
    parts += [f"{rows(near)} nearly equal to"] if near else []
    outcome.say(
        f"Training has {' and '.join(parts)} a held-out row{skipped}",
        severity="warning",
        fix="Set data.cleaning.leaked_rows: drop to take them out of training.",
    )
