"""Checks of answers beside each other: contradictions, stock answers, classes of which some are rare."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.data.cleaning.facts import Facts
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.personal import hide
from engine.data.cleaning.texts import has_label, parts_of
from engine.data.row_keys import Integers, first_places
from engine.data.row_store import id_of
from engine.data.rows import Row
from engine.text import clean_line

_MANY_CONTRADICTIONS = 0.05
_REPEATED_SHARE, _REPEATED_LEAST, _REPEATED_CHARS = 0.01, 5, 25
_REPEATED_ALARM = 0.2
_CLASS_SHARE, _CLASS_CHARS, _CLASS_LEAST_ROWS = 0.05, 60, 40
_UNBALANCED = 10
_QUOTED_CHARS = 60


def is_choice(facts: Facts, alive: Integers, data: Sequence[Row]) -> bool:
    """Return whether answers are picked from a list, as labels are: few different ones, and short.

    Args:
        facts: Of all rows.
        alive: Numbers of the rows that count.
        data: The rows.
    """
    if not len(alive):
        return False
    if has_label(data[int(alive[0])]):
        return True
    short = bool((facts.answer_chars[alive] <= _CLASS_CHARS).all())
    asks = bool(facts.asked[alive].any())
    different = len(np.unique(facts.answered[alive])) if short and asks else len(alive)
    return len(alive) >= _CLASS_LEAST_ROWS and different <= max(2, _CLASS_SHARE * len(alive))


def find_contradictions(facts: Facts, alive: Integers) -> dict[int, list[int]]:
    """Return `{question key: its rows}` of the questions that have different answers.

    Args:
        facts: Of all rows.
        alive: Numbers of the rows that count.
    """
    asking = alive[facts.asked[alive] != 0]
    answers = facts.answered[asking]
    against = np.flatnonzero(answers != answers[first_places(facts.asked[asking])])
    # In the order in which the rows contradict.
    torn: dict[int, list[int]] = {int(key): [] for key in facts.asked[asking[against]]}
    for row in asking[np.isin(facts.asked[asking], list(torn))].tolist():
        torn[int(facts.asked[row])].append(row)
    return torn


def tell_contradictions(
    outcome: Outcome, torn: dict[int, list[int]], facts: Facts, data: Sequence[Row], *, choice: bool, total: int
) -> None:
    """Say which questions have different answers, each row with the first one that it contradicts.

    Args:
        outcome: Takes the rows and the sentence.
        torn: As `find_contradictions` returns it.
        facts: Of all rows.
        data: The rows.
        choice: Whether answers are picked from a list: then only one of them can be right.
        total: Number of rows looked at.
    """
    for first, *others in torn.values():
        against = next(row for row in others if facts.answered[row] != facts.answered[first])
        outcome.found(f"{id_of(data, first)} against {id_of(data, against)}", num_rows=2)
        for row in others:
            if row != against:
                outcome.found(id_of(data, row))
    if not torn:
        return
    labelled = not {"text", "tokens"}.isdisjoint(data[next(iter(torn.values()))[0]])
    asked = "text" if labelled else "question"
    questions = f"1 {asked} has" if len(torn) == 1 else f"{len(torn):,} {asked}s have"
    what = "different labels" if labelled else "different labels or choices" if choice else "different answers"
    alarm = choice or outcome.count > _MANY_CONTRADICTIONS * total
    outcome.say(
        f"{questions} {what} in {rows(outcome.count)}",
        severity="warning" if choice else "note",
        fix="Keep the right one of each, or set data.cleaning.contradictions: drop." if alarm else "",
    )


def find_repeated(facts: Facts, alive: Integers) -> dict[int, list[int]]:
    """Return `{answer key: its rows}` of sentences that answer more than 1 % of the rows, among many other answers."""
    asking = alive[facts.asked[alive] != 0]
    answers, counts = np.unique(facts.answered[asking], return_counts=True)
    frequent = answers[counts >= max(_REPEATED_LEAST, _REPEATED_SHARE * len(alive))]
    # Where most answers come back, they are a list to choose from, and repeating is their nature.
    if not len(frequent) or len(answers) <= 0.2 * len(alive):
        return {}
    found: dict[int, list[int]] = {}
    long_enough = asking[facts.answer_chars[asking] >= _REPEATED_CHARS]
    for row in long_enough[np.isin(facts.answered[long_enough], frequent)].tolist():
        found.setdefault(int(facts.answered[row]), []).append(row)
    return found


def tell_repeated(outcome: Outcome, repeated: dict[int, list[int]], data: Sequence[Row], *, total: int) -> None:
    """Say which sentences answer many rows."""
    for numbers in repeated.values():
        for number in numbers:
            outcome.found(id_of(data, number))
    if not repeated:
        return
    most = max(repeated.values(), key=len)
    quoted = clean_line(hide(parts_of(data[most[0]])[1]), max_chars=_QUOTED_CHARS)
    answers = "One answer stands" if len(repeated) == 1 else f"{len(repeated)} answers stand"
    alarm = len(most) > _REPEATED_ALARM * total
    outcome.say(
        f'{answers} in {rows(outcome.count)}, most often ({len(most):,}) "{quoted}"',
        severity="warning" if alarm else "note",
        fix="The model will learn to say it; set data.cleaning.repeated_answers: drop to keep the first."
        if alarm
        else "",
    )


def tell_balance(outcome: Outcome, facts: Facts, alive: Integers, data: Sequence[Row]) -> None:
    """Say which classes are rare beside the most frequent one."""
    counts = Counter(facts.answered[alive].tolist())
    most, largest = counts.most_common(1)[0]
    rare = {key for key, count in counts.items() if count * _UNBALANCED <= largest}
    names: dict[int, str] = {}
    for row, key in zip(alive.tolist(), facts.answered[alive].tolist(), strict=True):
        if key in rare:
            outcome.found(id_of(data, row))
        if key not in names and (key == most or key in rare):
            names[key] = clean_line(hide(parts_of(data[row])[1]), max_chars=40)
    if not rare:
        return
    rarest = sorted(rare, key=lambda key: (counts[key], names[key]))[:3]
    listed = ", ".join(f"{names[key]} {counts[key]:,}" for key in rarest)
    outcome.say(
        f"{len(rare)} of {len(counts)} classes {'is' if len(rare) == 1 else 'are'} rare: {listed}; "
        f"{names[most]} has {largest:,} rows"
    )
