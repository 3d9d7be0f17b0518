"""All checks of rows in order, each doing what the recipe says about it."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.data.cleaning import answers, hidden, outliers
from engine.data.cleaning.duplicates import find_alike, tell_alike
from engine.data.cleaning.facts import Facts, facts_of
from engine.data.cleaning.outcome import Outcome, rows
from engine.data.cleaning.personal import PERSONAL
from engine.data.cleaning.secrets import SECRETS, find_kinds, mask
from engine.data.cleaning.texts import texts_of, with_texts
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
        partial(find_kinds, patterns=SECRETS),
        partial(mask, patterns=SECRETS),
        "hold what looks like a secret ({kinds})",
        alarm=True,
        fix="Withdraw those that are real; set data.cleaning.secrets: mask, or drop.",
    ),
    TextCheck(
        "personal_data",
        partial(find_kinds, patterns=PERSONAL),
        partial(mask, patterns=PERSONAL),
        "hold personal data ({kinds})",
    ),
)


@dataclass(slots=True)
class Cleaned:
    """Rows after the checks.

    Attributes:
        rows: Those that stay, in order.
        groups: For each of them the number of its group of rows that are nearly equal.
        outcomes: What each check found.
    """

    rows: list[Row]
    groups: list[int]
    outcomes: list[Outcome] = field(default_factory=list)

    def only(self, kept: Sequence[Row]) -> "Cleaned":
        """Return the same with some of the rows, which must be those very objects, in order."""
        wanted = {id(row) for row in kept}
        pairs = [pair for pair in zip(self.rows, self.groups, strict=True) if id(pair[0]) in wanted]
        return Cleaned([row for row, _ in pairs], [group for _, group in pairs], self.outcomes)


def check_texts(data: Iterable[Row], cleaning: CleaningSection, dropped: Tally) -> Cleaned:
    """Look at the texts of rows one by one: hidden characters, double encoding, secrets, personal data.

    Args:
        data: Canonical rows.
        cleaning: What the recipe says to do.
        dropped: Rows left out are counted here.
    """
    checks = [(check, action) for check in TEXT_CHECKS if (action := getattr(cleaning, check.name)) != "off"]
    outcomes = {check.name: Outcome(check.name, action) for check, action in checks}
    kept: list[Row] = []
    for row in data:
        stays: Row | None = row
        for check, action in checks:
            stays = _checked(stays, check, action, outcomes[check.name]) if stays else None
            if stays is None:
                dropped.add(check.name, row["id"])
                break
        if stays is not None:
            kept.append(stays)
    for check, _ in checks:
        _tell_texts(outcomes[check.name], check)
    return Cleaned(kept, list(range(len(kept))), list(outcomes.values()))


def _checked(row: Row, check: TextCheck, action: str, outcome: Outcome) -> Row | None:
    """Return the row as it goes on: as it is, changed, or not at all."""
    kinds = check.find("\n".join(texts_of(row)))
    if not kinds:
        return row
    outcome.found(row["id"], kinds)
    if action == "drop":
        outcome.dropped += 1
        return None
    if action == "report":
        return row
    outcome.changed += 1
    changed: Row = with_texts(row, check.change)
    return changed


def _tell_texts(outcome: Outcome, check: TextCheck) -> None:
    if outcome.count:
        verb = check.sentence.replace("hold", "holds", 1) if outcome.count == 1 else check.sentence
        severity: Severity = "warning" if check.alarm else "note"
        outcome.say(f"{rows(outcome.count)} {verb.format(kinds=outcome.by_kind())}", severity=severity, fix=check.fix)


class RowChecks:
    """Checks of rows beside each other; a row that one of them drops is unknown to those after it.

    Args:
        data: Canonical rows.
        cleaning: What the recipe says to do.
        seed: The run's seed.
        dropped: Rows left out are counted here.
    """

    def __init__(self, data: Sequence[Row], cleaning: CleaningSection, seed: int, dropped: Tally) -> None:
        self._data, self._cleaning, self._seed, self._dropped = data, cleaning, seed, dropped
        self._facts: Facts = facts_of(data, with_languages=cleaning.other_languages != "off")
        self._alive = list(range(len(data)))
        self._groups = list(self._alive)
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
            if action != "off" and self._alive:
                outcome = Outcome(name, action)
                check(outcome)
                self._outcomes.append(outcome)
        return Cleaned(
            [self._data[row] for row in self._alive], [self._groups[row] for row in self._alive], self._outcomes
        )

    def _drop(self, outcome: Outcome, numbers: Iterable[int]) -> None:
        if outcome.action != "drop":
            return
        gone = set(numbers)
        for number in sorted(gone):
            self._dropped.add(outcome.name, self._data[number]["id"])
        outcome.dropped += len(gone)
        self._alive = [row for row in self._alive if row not in gone]

    def _near_duplicates(self, outcome: Outcome) -> None:
        found = find_alike(self._data, self._facts, self._alive, self._seed)
        self._groups = found.firsts
        looked_at = self._alive
        self._drop(outcome, (row for row in looked_at if found.firsts[row] != row))
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
