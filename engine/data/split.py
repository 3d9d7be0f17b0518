"""Which rows are trained on and which are kept for evaluation and for a last test: seeded, and nothing on two sides.

The draw depends on the seed and on what rows hold, never on where they stand: each group of rows that belong together
gets a number from a hash of its text, and the smallest numbers are held out. Files in another order give the same
split, and a few more rows change the side of hardly any of those that were there.
"""

import hashlib
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.near import Groups
from engine.data.row_keys import Integers, RowKeys, first_places
from engine.data.row_store import id_of, ids_of, picked
from engine.data.rows import Row, Tally
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

DEFAULT_SHARE = 0.1
DEFAULT_MOST = 500
LARGEST_SHARE = 0.25
"""A group of near duplicates that holds more of the rows cannot be kept on one side: only equal rows are then."""
_DRAW_BYTES = 16


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows by what they are for, each in the order of the files.

    Attributes:
        train: Rows to learn from.
        held_out: Rows to be judged on while training and after it.
        test: Rows put aside.
        notes: Sentences about what could not be kept.
        wanted: Number of rows to hold out that was aimed at.
    """

    train: Sequence[Row]
    held_out: Sequence[Row]
    test: Sequence[Row] = ()
    notes: list[str] = field(default_factory=list)
    wanted: int = 0


@dataclass(frozen=True, slots=True)
class Division:
    """How rows are divided.

    Attributes:
        share: Share to hold out; None for a tenth, at most 500; 0 for nothing.
        test: Share to put aside; 0 for nothing.
        alike: For each row the number of its group of near duplicates.
        strata: For each row the value whose share is kept on each side.
        together: For each row the value that stays on one side.
        times: For each row a number that grows with time; the newest are put aside first, then held out.
    """

    share: float | None = None
    test: float = 0.0
    alike: Sequence[int] | Integers | None = None
    strata: Sequence[Hashable] | None = None
    together: Sequence[Hashable] | None = None
    times: Sequence[float] | npt.NDArray[np.float64] | None = None


def different_rows(rows: Sequence[Row], keys: RowKeys, dropped: Tally) -> Integers:
    """Return the places of the first of rows that are equal to the letter; the others are counted."""
    firsts = keys.firsts()
    places = np.arange(len(firsts))
    later = np.flatnonzero(firsts != places)
    for place, row_id in zip(later.tolist(), ids_of(picked(rows, later)), strict=True):
        # Looking up the first row of each takes longer than all else; one is named.
        wanted = dropped.wants_detail("duplicate")
        dropped.add("duplicate", row_id, f"equal to {id_of(rows, int(firsts[place]))}" if wanted else "")
    return np.flatnonzero(firsts == places)


def limited(rows: Sequence[Row], keys: RowKeys, limit: int, seed: int, dropped: Tally) -> Integers:
    """Return the places of at most `limit` rows, drawn with the seed by what they hold; the others are counted."""
    if len(keys) <= limit:
        return np.arange(len(keys))
    drawn = np.zeros(len(keys), dtype=bool)
    drawn[np.argsort(_draws(f"limit {seed}", keys, range(len(keys))), kind="stable")[:limit]] = True
    for row_id in ids_of(picked(rows, np.flatnonzero(~drawn))):
        dropped.add("row_limit", row_id)
    return np.flatnonzero(drawn)


def split_rows(
    rows: Sequence[Row], division: Division, seed: int, *, keys: RowKeys | None = None, left_out: str = ""
) -> SplitRows:
    """Return training, held-out and test rows, each in file order; rows that belong together stay on one side.

    Args:
        rows: All rows.
        division: How they are divided.
        seed: Seed of the draw.
        keys: Their keys, where somebody has them already.
        left_out: Which rows were left out before and why, for the message when too few remain.

    Raises:
        ProblemError: Fewer groups than sides.
    """
    notes: list[str] = []
    keys = RowKeys.of(rows) if keys is None else keys
    groups = RowGroups(_grouped(keys, division, notes))
    wanted_test = max(1, round(len(rows) * division.test)) if division.test else 0
    wanted = _wanted(len(rows), division.share)
    needed = 1 + (wanted > 0) + (wanted_test > 0)
    if len(groups) < needed:
        raise _too_few(len(groups), needed, left_out, division)
    ordered = _ordered(groups, keys, division, seed)
    classes = _strata(groups, division)
    test = _take(groups, ordered, wanted_test, len(ordered) - needed + 1, division, classes)
    rest = ordered[~np.isin(ordered, list(test))]
    held = _take(groups, rest, wanted, len(rest) - 1, division, classes)
    side = np.zeros(len(groups), dtype=np.int8)
    side[list(held)], side[list(test)] = 1, 2
    sides = side[groups.of_row]
    train, held_out, tested = (picked(rows, np.flatnonzero(sides == number)) for number in range(3))
    return SplitRows(train, held_out, tested, notes, wanted)


def check_share(share: float | None) -> None:
    """Refuse a share to hold out that is none.

    Raises:
        ProblemError: It does not lie between 0 and 1.
    """
    if share is None or 0 < share < 1:
        return
    raise ProblemError(
        Problem(
            "data.held_out_share",
            f"data.held_out is {share:g}; a share lies between 0 and 1.",
            "Write 0.1 for a tenth, or name a file with held-out rows.",
            path="data.held_out",
        )
    )


def _wanted(count: int, share: float | None) -> int:
    if share == 0:
        return 0
    return max(1, min(math.ceil(count * DEFAULT_SHARE), DEFAULT_MOST) if share is None else round(count * share))


class RowGroups:
    """Groups of rows that stay together, numbered by their first rows.

    Attributes:
        of_row: For each row the number of its group.
        sizes: For each group how many rows it has.

    Args:
        firsts: For each row the place of the first row of its group.
    """

    def __init__(self, firsts: Integers) -> None:
        _, self.of_row, self.sizes = np.unique(firsts, return_inverse=True, return_counts=True)

    def __len__(self) -> int:
        return len(self.sizes)

    def least(self, values: npt.NDArray[Any]) -> Integers:
        """Return for each group the place of its row with the smallest value."""
        if len(self) == len(self.of_row):
            return np.argsort(self.of_row)
        order = np.lexsort((values, self.of_row))
        return order[np.flatnonzero(np.r_[True, np.diff(self.of_row[order]) != 0])] if len(order) else order


def _grouped(keys: RowKeys, division: Division, notes: list[str]) -> Integers:
    """Return for each row the first row that it stays with: equal ones, those of one value, and near duplicates."""
    sure = Groups(len(keys))
    sure.join_all(keys.firsts())
    if division.together is not None:
        sure.join_all(_first_places(division.together))
    firsts = sure.firsts()
    if division.alike is None:
        return firsts
    wider = Groups(len(keys))
    wider.join_all(firsts)
    wider.join_all(first_places(np.asarray(division.alike, np.int64)))
    largest, before = _largest(wider.firsts()), _largest(firsts)
    if largest <= max(before, LARGEST_SHARE * len(keys)):
        return wider.firsts()
    notes.append(
        f"{largest:,} of {len(keys):,} rows are so much alike that they cannot be kept on one side; near duplicates "
        "stand in training and in the held-out rows."
    )
    return firsts


def _first_places(values: Sequence[Hashable]) -> Integers:
    first: dict[Hashable, int] = {}
    return np.fromiter((first.setdefault(value, place) for place, value in enumerate(values)), np.int64, len(values))


def _largest(firsts: Integers) -> int:
    return int(np.bincount(firsts).max()) if len(firsts) else 0


def _ordered(groups: RowGroups, keys: RowKeys, division: Division, seed: int) -> Integers:
    """Return the groups in the order in which they are taken out: the newest, or as drawn."""
    draws = _draws(f"split {seed}", keys, groups.least(keys.values))
    if division.times is None:
        return np.argsort(draws, kind="stable")
    ages = -np.asarray(division.times, np.float64)
    return np.lexsort((draws, ages[groups.least(ages)]))


def _draws(purpose: str, keys: RowKeys, places: Iterable[int]) -> npt.NDArray[np.bytes_]:
    """Return a hash of each key, the order of a draw."""
    drawn = bytearray()
    for place in places:
        drawn += hashlib.blake2b(f"{purpose} {keys.hex(place)}".encode(), digest_size=_DRAW_BYTES).digest()
    return np.frombuffer(drawn, dtype=f"S{_DRAW_BYTES}")


def _strata(groups: RowGroups, division: Division) -> list[str] | None:
    """Return the class of each group: the first by name of those that its rows have."""
    if division.strata is None:
        return None
    classes: list[str] = [""] * len(groups)
    seen: set[int] = set()
    for group, value in zip(groups.of_row.tolist(), division.strata, strict=True):
        classes[group] = min(classes[group], str(value)) if group in seen else str(value)
        seen.add(group)
    return classes


def _take(
    groups: RowGroups,
    ordered: Integers,
    wanted: int,
    most_groups: int,
    division: Division,
    classes: Sequence[str] | None,
) -> set[int]:
    """Return the first groups that give so many rows, at least one group and at most so many."""
    if wanted == 0:
        return set()
    if classes is None:
        return _first_that_fit(groups, ordered, wanted, most_groups, skip=division.times is None)
    strata: dict[str, list[int]] = {}
    for group in ordered.tolist():
        strata.setdefault(classes[group], []).append(group)
    quotas = _quotas({value: int(groups.sizes[members].sum()) for value, members in strata.items()}, wanted)
    taken: set[int] = set()
    for value, members in strata.items():
        # A value that only one group has is learned: what was never seen cannot be judged.
        if quotas[value] and len(members) > 1:
            taken |= _first_that_fit(groups, members, quotas[value], len(members) - 1, skip=True, least=False)
    return taken or _first_that_fit(groups, ordered, wanted, most_groups, skip=True)


def _first_that_fit(
    groups: RowGroups,
    ordered: Sequence[int] | Integers,
    wanted: int,
    most_groups: int,
    *,
    skip: bool,
    least: bool = True,
) -> set[int]:
    """Return groups in order, as long as their rows are not too many.

    Args:
        groups: All groups.
        ordered: Numbers of some of them.
        wanted: Number of rows.
        most_groups: Number of groups that may be taken.
        skip: Pass over a group that is too large; otherwise it is the end, because the order matters.
        least: Take one group, even a too large one, rather than none.
    """
    taken: set[int] = set()
    num_rows = 0
    for group in map(int, ordered):
        size = int(groups.sizes[group])
        if most_groups == 0 or num_rows >= wanted:
            break
        if num_rows + size <= wanted:
            taken.add(group)
            num_rows += size
            most_groups -= 1
        elif not skip:
            break
    if taken or not least:
        return taken
    return {int(min(ordered, key=lambda group: int(groups.sizes[group])) if skip else ordered[0])}


def _quotas(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """Return how many rows each value gives, in proportion, the largest remainders first."""
    total = sum(sizes.values())
    exact = {value: wanted * size / total for value, size in sizes.items()}
    quotas = {value: int(share) for value, share in exact.items()}
    open_places = wanted - sum(quotas.values())
    for value in sorted(sizes, key=lambda value: (quotas[value] - exact[value], value))[:open_places]:
        quotas[value] += 1
    return quotas


def _too_few(number: int, needed: int, left_out: str, division: Division) -> ProblemError:
    if division.together is not None:
        message = f"The rows make {number} groups that stay together; {needed} are needed."
        fix = "Choose a column with more values, or data.split.method: random."
        return ProblemError(Problem("data.too_few_groups", message, fix, path="data.split.column"))
    found = "One usable row is" if number == 1 else f"{number} usable rows are"
    needs = "two" if needed == 2 else "three"
    sides = "training and evaluation need" if needed == 2 else "training, evaluation and test need"
    why = f" Left out: {left_out}." if left_out else ""
    return ProblemError(
        Problem(
            "data.too_few_rows",
            clean_line(f"{found} left; {sides} at least {needs} different ones.{why}", max_chars=1200),
            "Add rows; a few hundred good ones are a start.",
            path="data.source",
        )
    )
