"""Classes of the training rows made equal: rows of rare ones repeated, or rows of frequent ones left out.

Balancing acts on training rows alone, after the split and the weights of sources: evaluation must see the classes as
they are. Which rows are drawn depends on the seed and on each row's own id.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.data.cleaning.facts import facts_of
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.personal import hide
from engine.data.cleaning.texts import has_label, parts_of
from engine.data.row_keys import Integers
from engine.data.row_store import ids_of, picked
from engine.data.rows import Row, Tally
from engine.planning.profiles import Finding
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

Copies: TypeAlias = npt.NDArray[np.uint8]
Balancing = Literal["report", "oversample", "undersample", "off"]
MAX_REPEATS = 10
"""How often one row is used at most: a model that sees a row more often learns the row and not its class."""
LEAST_ROWS_PER_CLASS = 5
"""Answers that come back less often are no classes, but answers; a label always is one."""
_PATH = "data.cleaning.class_balance"
_NAMED_CLASSES = 3
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Balance:
    """How often each training row is used.

    Attributes:
        copies: For each row how often it is used; 0 leaves it out.
        note: What was done, with numbers.
    """

    copies: Copies
    note: str

    def applied(self, data: Iterable[Row], dropped: Tally, outcomes: Iterable[Outcome]) -> Iterator[Row]:
        """Yield the rows, each as often as its class needs, the uses of one row behind each other.

        The second use of a row is called `file:line*2`, and so on.

        Args:
            data: The rows that the balance was found for.
            dropped: Rows that are left out are counted here as `class_balance`.
            outcomes: The check of this name is told how many those are, once all rows were given out.
        """
        for row, copies in zip(data, map(int, self.copies), strict=True):
            if not copies:
                dropped.add("class_balance", row["id"])
            for number in range(1, copies + 1):
                yield row if number == 1 else {**row, "id": f"{row['id']}*{number}"}
        for outcome in [outcome for outcome in outcomes if outcome.name == "class_balance"][:1]:
            outcome.dropped = int((self.copies == 0).sum())

    def finding(self) -> Finding:
        """Return the note that goes into the profile."""
        return Finding(code="data.balanced", message=self.note, path=_PATH, severity="note")


def find_balance(data: Sequence[Row], action: Balancing, seed: int) -> Balance | None:
    """Return how often each training row is used so that all classes have equally many; None where nobody asks for it.

    Args:
        data: Canonical training rows.
        action: `oversample` brings every class up to the most frequent one, no row more than `MAX_REPEATS` times;
            `undersample` brings every class down to the rarest one.
        seed: The run's seed.

    Raises:
        ProblemError: The rows have no classes.
    """
    if action not in ("oversample", "undersample"):
        return None
    facts = facts_of(data, with_languages=False)
    different = len(np.unique(facts.answered))
    if not has_label(data[0]) and different * LEAST_ROWS_PER_CLASS > len(data):
        raise _no_classes(len(data), different, action)
    _, firsts, classes, sizes = np.unique(facts.answered, return_index=True, return_inverse=True, return_counts=True)
    wanted = int(sizes.max() if action == "oversample" else sizes.min())
    whole, more = np.divmod(np.minimum(wanted, MAX_REPEATS * sizes), sizes)
    copies = whole[classes].astype(np.uint8)
    copies[_drawn(data, classes, more, seed)] += 1
    return Balance(copies, _note(data, classes, firsts, copies, action))


def _drawn(data: Sequence[Row], classes: Integers, more: Integers, seed: int) -> Integers:
    """Return the places of so many rows of each class, those with the smallest hash of seed and id."""
    places = np.flatnonzero(more[classes] > 0)
    draws = np.fromiter((_draw(seed, row_id) for row_id in ids_of(picked(data, places))), np.uint64, len(places))
    places = places[np.lexsort((draws, classes[places]))]
    classes = classes[places]
    rank = np.arange(len(places)) - np.searchsorted(classes, classes)
    return places[rank < more[classes]]


def _draw(seed: int, row_id: str) -> int:
    key = f"balance {seed} {row_id}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest())


def _note(data: Sequence[Row], classes: Integers, firsts: Integers, copies: Copies, action: Balancing) -> str:
    """Say what was done: `classes` holds for each row the number of its class, `firsts` the first row of each class."""
    there = np.bincount(classes).tolist()
    used = np.bincount(classes, weights=copies).astype(np.int64).tolist()
    changed = sorted(
        (at for at in range(len(used)) if used[at] != there[at]),
        key=lambda at: (-abs(used[at] - there[at]), firsts[at]),
    )
    if not changed:
        return f"All {len(used)} classes have {rows(used[0])} already; none is repeated or left out."
    listed = ", ".join(
        f"{_name(data[int(firsts[at])])} {there[at]:,} -> {used[at]:,}" for at in changed[:_NAMED_CLASSES]
    )
    more = f" and {len(changed) - _NAMED_CLASSES} more" if len(changed) > _NAMED_CLASSES else ""
    short = sum(count < max(used) for count in used)
    capped = f" {short} of {len(used)} stay rarer: no row is used more than {MAX_REPEATS} times." if short else ""
    what = "repeated" if action == "oversample" else "left out"
    sizes = f"{len(data):,} training rows become {sum(used):,}"
    return clean_line(f"Rows are {what} for equal classes, {sizes}: {listed}{more}.{capped}", max_chars=600)


def _name(row: Row) -> str:
    return clean_line(hide(parts_of(row)[1]), max_chars=40).strip('"')


def _no_classes(count: int, different: int, action: str) -> ProblemError:
    message = f"{_PATH} is {action}, but the {rows(count)} for training have no classes: {different:,} answers differ."
    fix = "Remove it; it balances labels, and answers from a short list."
    return ProblemError(Problem("data.no_classes", message, fix, path=_PATH))
