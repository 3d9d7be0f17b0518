"""Rows as they travel through stage 1: raw rows of a file, canonical rows of a run, and what went wrong on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""A canonical row: `{"id", "messages": [{"role", "content"}]}` or `{"id", "text"}`."""

MAX_ROWS_NAMED = 5
"""Row numbers listed in a message; the count says how many more there are."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as the file has it.

    Attributes:
        where: `file:line`, the first line of the row (for Parquet the row number).
        values: Column names and values.
    """

    where: str
    values: dict[str, Any]


@dataclass(slots=True)
class Tally:
    """Rows that are not used, or used changed, by reason; nothing is dropped without passing here."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, where: str, detail: str = "") -> None:
        """Count one row under a reason; the first places and the first detail are kept for the message."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < MAX_ROWS_NAMED:
            places.append(where)
        if detail:
            self.details.setdefault(reason, detail)

    def total(self) -> int:
        """Return the number of rows counted."""
        return sum(self.counts.values())

    def named(self, reason: str) -> str:
        """Return the first places of a reason, such as `rows.jsonl:3, rows.jsonl:9 and 4 more`."""
        places = self.places.get(reason, [])
        more = self.counts.get(reason, 0) - len(places)
        return ", ".join(places) + (f" and {more} more" if more else "")


def turns(row: Row) -> Sequence[dict[str, str]]:
    """Return the messages of a conversation row; empty for plain text."""
    messages: Sequence[dict[str, str]] = row.get("messages", ())
    return messages


def last_answer(row: Row) -> str:
    """Return the last assistant turn of a conversation row; empty for plain text."""
    return next((turn["content"] for turn in reversed(turns(row)) if turn["role"] == "assistant"), "")
