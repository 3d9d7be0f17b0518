"""Rows that a model would be judged on after it learned them: training rows that a held-out file has too."""

from collections.abc import Sequence

from engine.data.cleaning.duplicates import alike, spoken
from engine.data.cleaning.facts import key_of
from engine.data.cleaning.near import MAX_ROWS, BandTable, words_of
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.texts import digest, parts_of, plain
from engine.data.rows import Row, Tally
from engine.data.split import row_key
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import CleaningSection

BLOCKING_SHARE = 0.01
"""More held-out rows than this among the training rows are no slip: one of the files is the wrong one."""
_MAX_PAIRS_PER_ROW = 8


def drop_leaked(
    train: Sequence[Row], held_out: Sequence[Row], cleaning: CleaningSection, seed: int, dropped: Tally
) -> tuple[list[Row], Outcome]:
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
    exact = _equal(train, held_out)
    if action == "block":
        _refuse_many(train, held_out, exact)
    near = _nearly(train, held_out, exact, seed) if cleaning.near_duplicates != "off" else {}
    outcome = Outcome("leaked_rows", action)
    kept: list[Row] = []
    for number, row in enumerate(train):
        other = exact.get(number, near.get(number, -1))
        if other < 0:
            kept.append(row)
            continue
        named = f"{row['id']} {'=' if number in exact else 'like'} {held_out[other]['id']}"
        if action == "report" or (number in near and action != "drop"):
            outcome.found(named)
            kept.append(row)
        elif number in exact:
            dropped.add("in_held_out", row["id"], f"equal to {held_out[other]['id']}")
        else:
            outcome.found(named)
            outcome.dropped += 1
            dropped.add("leaked_rows", row["id"])
    _tell(outcome, sum(number in exact for number in range(len(train))) if action == "report" else 0)
    return kept, outcome


def _equal(train: Sequence[Row], held_out: Sequence[Row]) -> dict[int, int]:
    """Return `{training row: held-out row}` of equal rows."""
    places = {row_key(row): number for number, row in reversed(list(enumerate(held_out)))}
    return {number: places[key] for number, row in enumerate(train) if (key := row_key(row)) in places}


def _nearly(train: Sequence[Row], held_out: Sequence[Row], exact: dict[int, int], seed: int) -> dict[int, int]:
    """Return `{training row: held-out row}` of rows that differ in case and white space, or in a few words."""
    found: dict[int, int] = {}
    places = {_taught(row): number for number, row in reversed(list(enumerate(held_out)))}
    rest: list[int] = []
    for number, row in enumerate(train):
        if number in exact:
            continue
        if (key := _taught(row)) in places:
            found[number] = places[key]
        else:
            rest.append(number)
    rest = sorted(rest, key=lambda number: digest(seed, row_key(train[number])))[:MAX_ROWS]
    # Held-out rows come first, so that every training row of a band is compared with one of them.
    table, first = BandTable(seed), len(held_out)
    for number, row in enumerate(held_out):
        table.add(number, words_of(spoken(row)))
    for number in rest:
        table.add(first + number, words_of(spoken(train[number])))
    cross = [(one, other - first) for one, other in table.pairs() if one < first <= other]
    for one, other in cross[: _MAX_PAIRS_PER_ROW * len(rest)]:
        if other not in found and alike(held_out[one], train[other]):
            found[other] = one
    return found


def _taught(row: Row) -> int:
    asked, answered = parts_of(row)
    return key_of(plain(asked), plain(answered))


def _refuse_many(train: Sequence[Row], held_out: Sequence[Row], exact: dict[int, int]) -> None:
    leaked = set(exact.values())
    if len(leaked) <= BLOCKING_SHARE * len(held_out):
        return
    pairs = [f"{train[number]['id']} = {held_out[other]['id']}" for number, other in list(exact.items())[:5]]
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


def _tell(outcome: Outcome, num_equal: int) -> None:
    if not outcome.count:
        return
    near = outcome.count - num_equal
    parts = [f"{rows(num_equal)} equal to"] if num_equal else []
    parts += [f"{rows(near)} nearly equal to"] if near else []
    outcome.say(
        f"Training has {' and '.join(parts)} a held-out row",
        severity="warning",
        fix="Set data.cleaning.leaked_rows: drop to take them out of training.",
    )
