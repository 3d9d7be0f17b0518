"""Which rows are trained on and which are kept for evaluation and for a last test: seeded, and nothing on two sides.

The draw depends on the seed and on what rows hold, never on where they stand: each group of rows that belong together
gets a number from a hash of its text, and the smallest numbers are held out. Files in another order give the same
split, and a few more rows change the side of hardly any of those that were there.
"""

import hashlib
import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from engine.data.cleaning.near import Groups
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

    train: list[Row]
    held_out: list[Row]
    test: list[Row] = field(default_factory=list)
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
    alike: Sequence[int] | None = None
    strata: Sequence[Hashable] | None = None
    together: Sequence[Hashable] | None = None
    times: Sequence[float] | None = None


def row_key(row: Row) -> str:
    """Return a hash over what a row teaches, its id left out."""
    taught = {key: value for key, value in row.items() if key != "id"}
    return hashlib.sha256(json.dumps(taught, ensure_ascii=True, sort_keys=True).encode()).hexdigest()


def drop_duplicates(rows: Sequence[Row], dropped: Tally) -> list[Row]:
    """Return the first of rows that are equal to the letter; the others are counted."""
    first: dict[str, str] = {}
    kept: list[Row] = []
    for row in rows:
        key = row_key(row)
        if key in first:
            dropped.add("duplicate", row["id"], f"equal to {first[key]}")
        else:
            first[key] = row["id"]
            kept.append(row)
    return kept


def limit_rows(rows: Sequence[Row], limit: int | None, seed: int, dropped: Tally) -> list[Row]:
    """Return at most `limit` rows, drawn with the seed by what they hold, in their order."""
    if limit is None or len(rows) <= limit:
        return list(rows)
    draws = [_draw(f"limit {seed}", row_key(row)) for row in rows]
    drawn = set(sorted(range(len(rows)), key=lambda number: (draws[number], number))[:limit])
    for number, row in enumerate(rows):
        if number not in drawn:
            dropped.add("row_limit", row["id"])
    return [row for number, row in enumerate(rows) if number in drawn]


def split_rows(rows: Sequence[Row], division: Division, seed: int, *, left_out: str = "") -> SplitRows:
    """Return training, held-out and test rows, each in file order; rows that belong together stay on one side.

    Args:
        rows: All rows.
        division: How they are divided.
        seed: Seed of the draw.
        left_out: Which rows were left out before and why, for the message when too few remain.

    Raises:
        ProblemError: Fewer groups than sides.
    """
    notes: list[str] = []
    keys = [row_key(row) for row in rows]
    groups = _grouped(keys, division, notes)
    wanted_test = max(1, round(len(rows) * division.test)) if division.test else 0
    wanted = _wanted(len(rows), division.share)
    needed = 1 + (wanted > 0) + (wanted_test > 0)
    if len(groups) < needed:
        raise _too_few(len(groups), needed, left_out, division)
    ordered = _ordered(groups, keys, division, seed)
    test = _take(ordered, wanted_test, len(ordered) - needed + 1, division)
    rest = [group for group in ordered if group[0] not in test]
    held = _take(rest, wanted, len(rest) - 1, division)
    return SplitRows(
        [row for number, row in enumerate(rows) if number not in held and number not in test],
        [row for number, row in enumerate(rows) if number in held],
        [row for number, row in enumerate(rows) if number in test],
        notes,
        wanted,
    )


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


def _grouped(keys: Sequence[str], division: Division, notes: list[str]) -> list[list[int]]:
    """Return the rows that stay together: equal ones, those of one value, and near duplicates."""
    sure = Groups(len(keys))
    _join(sure, keys)
    if division.together is not None:
        _join(sure, division.together)
    if division.alike is None:
        return _lists(sure.firsts())
    wider = Groups(len(keys))
    _join(wider, sure.firsts())
    _join(wider, division.alike)
    lists = _lists(wider.firsts())
    largest = max(map(len, lists), default=0)
    before = max(map(len, _lists(sure.firsts())), default=0)
    if largest <= max(before, LARGEST_SHARE * len(keys)):
        return lists
    notes.append(
        f"{largest:,} of {len(keys):,} rows are so much alike that they cannot be kept on one side; near duplicates "
        "stand in training and in the held-out rows."
    )
    return _lists(sure.firsts())


def _join(groups: Groups, values: Sequence[Hashable]) -> None:
    first: dict[Hashable, int] = {}
    for number, value in enumerate(values):
        groups.join(first.setdefault(value, number), number)


def _lists(firsts: Sequence[int]) -> list[list[int]]:
    lists: dict[int, list[int]] = {}
    for number, first in enumerate(firsts):
        lists.setdefault(first, []).append(number)
    return list(lists.values())


def _ordered(groups: list[list[int]], keys: Sequence[str], division: Division, seed: int) -> list[list[int]]:
    """Return the groups in the order in which they are taken out: the newest, or as drawn."""
    draws = {id(group): _draw(f"split {seed}", min(keys[number] for number in group)) for group in groups}
    if division.times is None:
        return sorted(groups, key=lambda group: draws[id(group)])
    times = division.times
    return sorted(groups, key=lambda group: (-max(times[number] for number in group), draws[id(group)]))


def _draw(purpose: str, key: str) -> bytes:
    return hashlib.blake2b(f"{purpose} {key}".encode(), digest_size=_DRAW_BYTES).digest()


def _take(ordered: list[list[int]], wanted: int, most_groups: int, division: Division) -> set[int]:
    """Return the row numbers of the first groups that give so many rows, at least one group and at most so many."""
    if wanted == 0:
        return set()
    if division.strata is None:
        return _first_that_fit(ordered, wanted, most_groups, skip=division.times is None)
    strata: dict[Hashable, list[list[int]]] = {}
    for group in ordered:
        strata.setdefault(min(str(division.strata[number]) for number in group), []).append(group)
    quotas = _quotas({value: sum(map(len, groups)) for value, groups in strata.items()}, wanted)
    taken: set[int] = set()
    for value, groups in strata.items():
        # A value that only one group has is learned: what was never seen cannot be judged.
        if quotas[value] and len(groups) > 1:
            taken |= _first_that_fit(groups, quotas[value], len(groups) - 1, skip=True, least=False)
    return taken or _first_that_fit(ordered, wanted, most_groups, skip=True)


def _first_that_fit(
    ordered: Sequence[list[int]], wanted: int, most_groups: int, *, skip: bool, least: bool = True
) -> set[int]:
    """Return the rows of groups in order, as long as they are not too many.

    Args:
        ordered: Groups of row numbers.
        wanted: Number of rows.
        most_groups: Number of groups that may be taken.
        skip: Pass over a group that is too large; otherwise it is the end, because the order matters.
        least: Take one group, even a too large one, rather than none.
    """
    taken: set[int] = set()
    for group in ordered:
        if most_groups == 0 or len(taken) >= wanted:
            break
        if len(taken) + len(group) <= wanted:
            taken.update(group)
            most_groups -= 1
        elif not skip:
            break
    if taken or not least:
        return taken
    return set(sorted(ordered, key=len)[0] if skip else ordered[0])


def _quotas(sizes: dict[Hashable, int], wanted: int) -> dict[Hashable, int]:
    """Return how many rows each value gives, in proportion, the largest remainders first."""
    total = sum(sizes.values())
    exact = {value: wanted * size / total for value, size in sizes.items()}
    quotas = {value: int(share) for value, share in exact.items()}
    open_places = wanted - sum(quotas.values())
    for value in sorted(sizes, key=lambda value: (quotas[value] - exact[value], str(value)))[:open_places]:
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
