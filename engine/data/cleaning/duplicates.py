"""Groups of rows that are equal or nearly equal."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.cleaning.facts import Facts
from engine.data.cleaning.near import MAX_ROWS, SIMILAR, BandTable, Groups, similarity, words_of
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.texts import digest, parts_of, texts_of
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

    firsts: list[int]
    num_compared: int


def spoken(row: Row) -> str:
    """Return the texts of a row without instructions of the system and tool definitions, which many rows share."""
    if "messages" not in row:
        return "\n".join(texts_of(row))
    return "\n".join(texts_of([message for message in row["messages"] if message["role"] != "system"]))


def alike(one: Row, other: Row) -> bool:
    """Return whether two rows ask nearly the same and answer nearly the same."""
    (asked, answered), (other_asked, other_answered) = parts_of(one), parts_of(other)
    return similarity(answered, other_answered) >= SIMILAR and similarity(asked, other_asked) >= SIMILAR


def find_alike(data: Sequence[Row], facts: Facts, alive: Sequence[int], seed: int) -> Alike:
    """Return the groups of rows that are nearly equal.

    Rows are taken in the order of a hash over the seed and their text, so that their order in the file changes nothing.

    Args:
        data: The rows.
        facts: Of all rows.
        alive: Numbers of the rows that count.
        seed: Seed of the hash functions, and of the draw where there are more rows than can be compared.
    """
    groups = Groups(len(data))
    first_of: dict[int, int] = {}
    for row in alive:
        groups.join(first_of.setdefault(facts.taught[row], row), row)
    drawn = sorted(first_of.values(), key=lambda row: digest(seed, facts.taught[row]))[:MAX_ROWS]
    table = BandTable(seed)
    for row in drawn:
        table.add(row, words_of(spoken(data[row])))
    pairs = table.pairs()[: _MAX_PAIRS_PER_ROW * len(drawn)]
    groups.join_alike(pairs, lambda one, other: alike(data[one], data[other]))
    return Alike(groups.firsts(), len(drawn) + len(alive) - len(first_of))


def tell_alike(outcome: Outcome, found: Alike, alive: Sequence[int], data: Sequence[Row]) -> None:
    """Say which rows are nearly equal to an earlier one."""
    for row in alive:
        if found.firsts[row] != row:
            outcome.found(f"{data[row]['id']} like {data[found.firsts[row]]['id']}")
    limited = f" (of {found.num_compared:,} compared)" if found.num_compared < len(alive) else ""
    if outcome.count:
        many = outcome.count > _MANY * len(alive)
        outcome.say(
            f"{rows(outcome.count)}{limited} {'is' if outcome.count == 1 else 'are'} nearly equal to an earlier row",
            severity="warning" if many else "note",
            fix="Set data.cleaning.near_duplicates: drop to keep one of each." if many else "",
        )
