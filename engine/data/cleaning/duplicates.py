"""Groups of rows that are equal or nearly equal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.cleaning.facts import Facts, Keys, key_of
from engine.data.cleaning.near import MAX_ROWS, SIMILAR, BandTable, Groups, similarities
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.texts import parts_of, texts_of
from engine.data.progress import NOBODY, WorkWatch
from engine.data.row_keys import Integers, first_places
from engine.data.row_store import id_of, picked
from engine.data.rows import Row

_MAX_PAIRS_PER_ROW = 8
_MANY = 0.2


@dataclass(frozen=True, slots=True)
class Alike:
    """Rows that are nearly equal.

    Attributes:
        firsts: For each row the number of the first row of its group.
        num_compared: Rows that were compared.
    """

    firsts: Integers
    num_compared: int


def spoken(row: Row) -> str:
    """Return the texts of a row without instructions of the system and tool definitions, which many rows share."""
    if "messages" not in row:
        return "\n".join(texts_of(row))
    return "\n".join(texts_of([message for message in row["messages"] if message["role"] != "system"]))


def alike(ones: Sequence[Row], others: Sequence[Row]) -> list[bool]:
    """Return which of two rows, pair by pair, ask nearly the same and answer nearly the same."""
    if not ones:
        return []
    (asked, answered), (other_asked, other_answered) = (
        zip(*map(parts_of, rows), strict=True) for rows in (ones, others)
    )
    return [
        answers >= SIMILAR and questions >= SIMILAR
        for answers, questions in zip(
            similarities(answered, other_answered), similarities(asked, other_asked), strict=True
        )
    ]


def drawn_keys(keys: Keys, seed: int) -> Keys:
    """Return numbers that order keys as drawn with a seed (the finalizer of MurmurHash3)."""
    mixed = keys ^ np.uint64(key_of("draw", seed))
    for factor in (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)):
        mixed = (mixed ^ (mixed >> np.uint64(33))) * factor
    return mixed ^ (mixed >> np.uint64(33))


def find_alike(data: Sequence[Row], facts: Facts, alive: Integers, seed: int, watch: WorkWatch = NOBODY) -> Alike:
    """Return the groups of rows that are nearly equal.

    Rows are taken in the order of a hash over the seed and their text, so that their order in the file changes nothing.

    Args:
        data: The rows.
        facts: Of all rows.
        alive: Numbers of the rows that count.
        seed: Seed of the hash functions, and of the draw where there are more rows than can be compared.
        watch: Told how far the comparison is.
    """
    groups = Groups(len(data))
    firsts = np.arange(len(data))
    firsts[alive] = alive[first_places(facts.taught[alive])]
    groups.join_all(firsts)
    different = alive[firsts[alive] == alive]
    draws = drawn_keys(facts.taught, seed)
    drawn = np.sort(different[np.argsort(draws[different], kind="stable")[:MAX_ROWS]])
    table = BandTable(seed)
    rows_read = watch.counted("Comparing rows", picked(data, drawn), len(drawn))
    table.add(drawn.tolist(), map(spoken, rows_read))
    pairs = table.pairs(draws)[: _MAX_PAIRS_PER_ROW * len(drawn)]
    for some in watch.counted("Comparing rows that look alike", groups.apart(pairs), 0):
        ones, others = ([data[number] for number in side] for side in zip(*some, strict=True))
        for pair, are_alike in zip(some, alike(ones, others), strict=True):
            if are_alike:
                groups.join(*pair)
    return Alike(groups.firsts(), len(drawn) + len(alive) - len(different))


def tell_alike(outcome: Outcome, found: Alike, alive: Integers, data: Sequence[Row]) -> None:
    """Say which rows are nearly equal to an earlier one."""
    for row in alive[found.firsts[alive] != alive].tolist():
        outcome.found(f"{id_of(data, row)} like {id_of(data, int(found.firsts[row]))}")
    limited = f" (of {found.num_compared:,} drawn for comparison)" if found.num_compared < len(alive) else ""
    if outcome.count:
        many = outcome.count > _MANY * len(alive)
        outcome.say(
            f"{rows(outcome.count)}{limited} {'is' if outcome.count == 1 else 'are'} nearly equal to an earlier row",
            severity="warning" if many else "note",
            fix="Set data.cleaning.near_duplicates: drop to keep one of each." if many else "",
        )
    elif limited:
        outcome.message = (
            f"No nearly equal rows among {found.num_compared:,} drawn for comparison; the other "
            f"{len(alive) - found.num_compared:,} were not compared."
        )
