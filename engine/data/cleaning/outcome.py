"""What one check found: how many rows, which ones, what became of them, and the sentence that says so."""

from collections import Counter
from dataclasses import dataclass, field

from engine.planning.profiles import CheckResult, Finding
from engine.recipe.problems import Severity
from engine.text import clean_line

MAX_PLACES = 100
"""Rows kept by name for each check; the count is of all."""
_NAMED = 5
_MAX_MESSAGE_CHARS = 700


@dataclass(slots=True)
class Outcome:
    """Collects what one check finds.

    Attributes:
        name: The check's key in `data.cleaning`.
        action: What the recipe says to do.
        count: Rows concerned.
        dropped: Rows taken out by it.
        changed: Rows whose text it changed.
        places: The first rows, each `file:line`, or `file:line = file:line` where a row goes with another one.
        kinds: Rows by kind of what was found.
        message: The sentence; empty when nothing was found.
        severity: How bad it is.
        fix: The next action.
    """

    name: str
    action: str
    count: int = 0
    dropped: int = 0
    changed: int = 0
    places: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    message: str = ""
    severity: Severity = "note"
    fix: str = ""
    _named_rows: int = 0

    def found(self, where: str, kinds: tuple[str, ...] = (), *, num_rows: int = 1) -> None:
        """Count one row, with the kinds of what it holds; or two that belong together."""
        self.count += num_rows
        self.kinds.update(kinds)
        if len(self.places) < MAX_PLACES:
            self.places.append(where)
            self._named_rows += num_rows if len(self.places) <= _NAMED else 0

    def named(self) -> str:
        """Return the first rows, such as `rows.jsonl:3, rows.jsonl:9 and 4 more`."""
        more = self.count - self._named_rows
        return ", ".join(self.places[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")

    def by_kind(self) -> str:
        """Return the kinds with their numbers of rows, the most frequent first."""
        return ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common(8))

    def say(self, message: str, *, severity: Severity = "note", fix: str = "") -> None:
        """Set the sentence; what was done with the rows and where they are is added."""
        self.message = clean_line(f"{message}{self._done()}: {self.named()}.", max_chars=_MAX_MESSAGE_CHARS)
        self.severity = "note" if self.dropped or self.changed else severity
        self.fix = "" if self.dropped or self.changed else fix

    def _done(self) -> str:
        if self.dropped:
            return f"; {self.dropped:,} {'is' if self.dropped == 1 else 'are'} left out"
        changed = f"{self.changed:,} {'row' if self.changed == 1 else 'rows'}"
        return f"; the text of {changed} is changed" if self.changed else ""

    def result(self) -> CheckResult:
        """Return what goes into the profile."""
        return CheckResult(
            name=self.name,
            action=self.action,
            count=self.count,
            dropped=self.dropped,
            changed=self.changed,
            places=[clean_line(place, max_chars=200) for place in self.places],
            message=self.message,
        )

    def finding(self) -> Finding | None:
        """Return the finding; None when there is nothing to say."""
        if not self.message:
            return None
        return Finding(
            code=f"data.{self.name}",
            message=self.message,
            fix=self.fix,
            path=f"data.cleaning.{self.name}",
            severity=self.severity,
        )


def rows(count: int) -> str:
    """Return a number of rows in words: `1 row`, `1,200 rows`."""
    return "1 row" if count == 1 else f"{count:,} rows"
