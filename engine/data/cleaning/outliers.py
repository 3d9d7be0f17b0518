"""Rows whose length or language is not that of the others."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from engine.data.cleaning.facts import Facts
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.row_keys import Integers
from engine.data.row_store import id_of
from engine.data.rows import Row

_LEAST_ROWS = 50
_FAR = 6.0
"""Robust standard deviations of the logarithm of the length: one row in 500 million of a log-normal distribution."""
_FACTOR = math.log(8)
"""And at least so much longer or shorter than the middle row, as a logarithm."""
_PER_DEVIATION = 0.6745
"""Median absolute deviation of a normal distribution of deviation 1."""


def find_far(facts: Facts, alive: Integers) -> list[int]:
    """Return the rows whose length is far from the middle.

    By the robust z score (Iglewicz and Hoaglin 1993) of its logarithm, because lengths spread by factors.
    """
    if len(alive) < _LEAST_ROWS:
        return []
    logs = facts.log_chars[alive]
    away = logs - np.median(logs)
    spread = float(np.median(np.abs(away)))
    limit = max(_FACTOR, _FAR * spread / _PER_DEVIATION)
    far: list[int] = alive[np.abs(away) > limit].tolist()
    return far


def tell_far(outcome: Outcome, far: Sequence[int], facts: Facts, alive: Integers, data: Sequence[Row]) -> None:
    """Say how long the far rows are; the longest come first."""
    for row in sorted(far, key=lambda row: -facts.log_chars[row]):
        outcome.found(id_of(data, row))
    if not far:
        return
    middle = math.exp(float(np.median(facts.log_chars[alive])))
    sizes = [math.exp(facts.log_chars[row]) for row in far]
    longest = f", the longest of {max(sizes):,.0f} characters" if max(sizes) > middle else ""
    outcome.say(
        f"{rows(len(far))} {'is' if len(far) == 1 else 'are'} far from the usual length of {middle:,.0f} "
        f"characters{longest}"
    )


def find_foreign(facts: Facts, alive: Integers) -> tuple[str, list[int], Counter[str]]:
    """Return the main language, the rows in another one, and the number of rows of each language that is clear."""
    used = np.bincount(facts.languages[alive], minlength=len(facts.language_names)).tolist()
    counts = Counter({name: count for name, count in zip(facts.language_names, used, strict=True) if name and count})
    if not counts:
        return "", [], counts
    main = counts.most_common(1)[0][0]
    languages = facts.languages[alive]
    foreign = alive[(languages != 0) & (languages != facts.language_names.index(main))]
    return main, foreign.tolist(), counts


def tell_foreign(
    outcome: Outcome, foreign: Sequence[int], counts: Counter[str], facts: Facts, data: Sequence[Row]
) -> None:
    """Say which languages there are beside the main one."""
    for row in foreign:
        outcome.found(id_of(data, row), (facts.language_names[facts.languages[row]],))
    if not foreign:
        return
    (main, most), *_ = counts.most_common(1)
    if most * 2 > counts.total():
        outcome.say(f"Most rows are {main} ({most:,}), others not ({outcome.by_kind()})")
    else:
        listed = ", ".join(f"{language} {count:,}" for language, count in counts.most_common(8))
        outcome.say(f"Rows are in {len(counts)} languages or scripts ({listed}), none of them in most")
