"""All checks of rows in order, each doing what the recipe says about it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from engine.data.cleaning import answers, hidden, outliers
from engine.data.cleaning.duplicates import find_alike, tell_alike
from engine.data.cleaning.facts import Facts
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.personal import PERSONAL
from engine.data.cleaning.secrets import SECRETS, finder, mask
from engine.data.cleaning.texts import texts_of, with_texts
from engine.data.progress import NOBODY, WorkWatch
from engine.data.row_keys import Integers
from engine.data.row_store import ids_of, picked
from engine.data.rows import Row, Tally
from engine.recipe.problems import Severity
from engine.recipe.schema_data import CleaningSection

DROPPED = {
    "near_duplicates": ("is nearly equal to an earlier row", "are nearly equal to an earlier row"),
    "contradictions": ("has a question with different answers", "have a question with different answers"),
    "repeated_answers": ("has an answer that many rows have", "have an answer that many rows have"),
    "length_outliers": ("is far from the usual length", "are far from the usual length"),
    "other_languages": ("is in another language than most", "are in another language than most"),
    "hidden_characters": ("holds hidden characters", "hold hidden characters"),
    "double_encoding": ("holds text that was encoded twice", "hold text that was encoded twice"),
    "secrets": ("holds a secret", "hold a secret"),
    "personal_data": ("holds personal data", "hold personal data"),
    "class_balance": ("is of a frequent class and was not drawn", "are of frequent classes and were not drawn"),
    "leaked_rows": ("is nearly equal to a held-out row", "are nearly equal to a held-out row"),
}
"""Reasons for which a check drops rows: the name of its switch, and what it says after `1 row` and `3 rows`."""


@dataclass(frozen=True, slots=True)
class TextCheck:
    """A check that looks at the text of one row at a time.

    Attributes:
        name: Its switch in `data.cleaning`.
        find: Returns the kinds of what a text holds.
        change: Returns the text without it; used where the recipe says `mask`, `remove` or `repair`.
        sentence: What is said after the number of rows, with `{kinds}`.
        alarm: Whether finding something is a warning.
        fix: The next action, where it is one.
    """

    name: str
    find: Callable[[str], tuple[str, ...]]
    change: Callable[[str], str]
    sentence: str
    alarm: bool = False
    fix: str = ""


TEXT_CHECKS = (
    TextCheck(
        "hidden_characters", hidden.find_hidden, hidden.without_hidden, "hold characters that nobody sees ({kinds})"
    ),
    TextCheck(
        "double_encoding",
        hidden.find_doubled,
        hidden.repaired,
        "hold text that was encoded twice ({kinds})",
        alarm=True,
        fix="Set data.cleaning.double_encoding: repair, or drop.",
    ),
    TextCheck(
        "secrets",
        finder(SECRETS),
        partial(mask, patterns=SECRETS),
        "hold what looks like a secret ({kinds})",
        alarm=True,
        fix="Withdraw those that are real; set data.cleaning.secrets: mask, or drop.",
    ),
    TextCheck(
        "personal_data",
        finder(PERSONAL),
        partial(mask, patterns=PERSONAL),
        "hold personal data ({kinds})",
    ),
)


@dataclass(slots=True)
class Cleaned:
    """What is left after the checks.

    Attributes:
        numbers: Places of the rows that stay, in order.
        groups: For each of them the number of its group of rows that are nearly equal.
        outcomes: What each check found.
    """

    numbers: Integers
    groups: Integers
    outcomes: list[Outcome] = field(default_factory=list)


class TextChecks:
    """Looks at the texts of rows one by one: hidden characters, double encoding, secrets, personal data.

    Args:
        cleaning: What the recipe says to do.
        dropped: Rows left out are counted here.
    """

    def __init__(self, cleaning: CleaningSection, dropped: Tally) -> None:
        self._dropped = dropped
        self._checks = [
            (check, Outcome(check.name, action))
            for check in TEXT_CHECKS
            if (action := getattr(cleaning, check.name)) != "off"
        ]

    def checked(self, row: Row) -> Row | None:
        """Return a row as it goes on: as it is, changed, or not at all."""
        text = "\n".join(texts_of(row))
        for check, outcome in self._checks:
            kinds = check.find(text)
            if not kinds:
                continue
            outcome.found(row["id"], kinds)
            if outcome.action == "drop":
                outcome.dropped += 1
                self._dropped.add(check.name, row["id"])
                return None
            if outcome.action != "report":
                outcome.changed += 1
                row = with_texts(row, check.change)
                text = "\n".join(texts_of(row))
        return row

    def outcomes(self) -> list[Outcome]:
        """Return what each check found, with its sentence, once all rows were looked at."""
        for check, outcome in self._checks:
            _tell_texts(outcome, check)
        return [outcome for _, outcome in self._checks]


def _tell_texts(outcome: Outcome, check: TextCheck) -> None:
    if outcome.count:
        verb = check.sentence.replace("hold", "holds", 1) if outcome.count == 1 else check.sentence
        severity: Severity = "warning" if check.alarm else "note"
        outcome.say(f"{rows(outcome.count)} {verb.format(kinds=outcome.by_kind())}", severity=severity, fix=check.fix)


class RowChecks:
    """Checks of rows beside each other; a row that one of them drops is unknown to those after it.

    Args:
        data: Canonical rows.
        facts: Of each of them.
        cleaning: What the recipe says to do.
        seed: The run's seed.
        dropped: Rows left out are counted here.
        watch: Told how far the checks are.
    """

    def __init__(
        self,
        data: Sequence[Row],
        facts: Facts,
        cleaning: CleaningSection,
        seed: int,
        dropped: Tally,
        watch: WorkWatch = NOBODY,
    ) -> None:
        self._data, self._facts, self._cleaning = data, facts, cleaning
        self._seed, self._dropped, self._watch = seed, dropped, watch
        self._alive: Integers = np.arange(len(data))
        self._groups = self._alive
        self._outcomes: list[Outcome] = []

    def run(self) -> Cleaned:
        """Run all checks that are not switched off."""
        for name, check in (
            ("near_duplicates", self._near_duplicates),
            ("contradictions", self._contradictions),
            ("repeated_answers", self._repeated_answers),
            ("length_outliers", self._length_outliers),
            ("other_languages", self._other_languages),
            ("class_balance", self._class_balance),
        ):
            action = getattr(self._cleaning, name)
            # What a person asked for is answered, if only that there is nothing to do.
            asked = action != "report" or name not in unasked(self._data[0]) if len(self._data) else False
            if action != "off" and asked and len(self._alive):
                outcome = Outcome(name, action)
                check(outcome)
                self._outcomes.append(outcome)
        return Cleaned(self._alive, self._groups[self._alive], self._outcomes)

    def _drop(self, outcome: Outcome, numbers: Iterable[int]) -> None:
        if outcome.action != "drop":
            return
        gone = np.unique(np.fromiter(numbers, np.int64))
        for row_id in ids_of(picked(self._data, gone)):
            self._dropped.add(outcome.name, row_id)
        outcome.dropped += len(gone)
        self._alive = self._alive[~np.isin(self._alive, gone)]

    def _near_duplicates(self, outcome: Outcome) -> None:
        found = find_alike(self._data, self._facts, self._alive, self._seed, self._watch)
        self._groups = found.firsts
        looked_at = self._alive
        self._drop(outcome, looked_at[found.firsts[looked_at] != looked_at])
        tell_alike(outcome, found, looked_at, self._data)

    def _contradictions(self, outcome: Outcome) -> None:
        torn = answers.find_contradictions(self._facts, self._alive)
        choice = answers.is_choice(self._facts, self._alive, self._data)
        total = len(self._alive)
        self._drop(outcome, (row for numbers in torn.values() for row in numbers))
        answers.tell_contradictions(outcome, torn, self._facts, self._data, choice=choice, total=total)

    def _repeated_answers(self, outcome: Outcome) -> None:
        repeated = answers.find_repeated(self._facts, self._alive)
        total = len(self._alive)
        self._drop(outcome, (row for numbers in repeated.values() for row in numbers[1:]))
        answers.tell_repeated(outcome, repeated, self._data, total=total)

    def _length_outliers(self, outcome: Outcome) -> None:
        looked_at, far = self._alive, outliers.find_far(self._facts, self._alive)
        self._drop(outcome, far)
        outliers.tell_far(outcome, far, self._facts, looked_at, self._data)

    def _other_languages(self, outcome: Outcome) -> None:
        main, foreign, counts = outliers.find_foreign(self._facts, self._alive)
        if counts[main] * 2 > counts.total():
            self._drop(outcome, foreign)
        outliers.tell_foreign(outcome, foreign, counts, self._facts, self._data)

    def _class_balance(self, outcome: Outcome) -> None:
        if answers.is_choice(self._facts, self._alive, self._data):
            answers.tell_balance(outcome, self._facts, self._alive, self._data)


def unasked(row: Row) -> frozenset[str]:
    """Return the checks that ask nothing of rows such as this: running text has no answers, and labels repeat."""
    if "tokens" in row:
        return frozenset({"repeated_answers", "class_balance"})
    if "text" not in row:
        return frozenset()
    labelled = "label" in row or "labels" in row
    return frozenset({"repeated_answers"} if labelled else {"contradictions", "repeated_answers", "class_balance"})


def merged(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Return outcomes without those of a second file that found nothing: a check is listed once where it is clean."""
    listed = list(outcomes)
    names = Counter(outcome.name for outcome in listed)
    seen: set[str] = set()
    kept = []
    for outcome in sorted(listed, key=lambda outcome: not outcome.count):
        if outcome.count or (outcome.name not in seen and names[outcome.name]):
            kept.append(outcome)
        seen.add(outcome.name)
    return kept
