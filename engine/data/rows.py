"""Rows as they travel through stage 1: raw rows of a file, canonical rows of a run, and what went wrong on the way.

A canonical row is a plain dictionary, ready to be written as JSON. `id` is `file:line`; the other keys tell its kind:

- conversation: `messages`, and `tools` where the row brings tool definitions;
- text: `text`;
- text with a label: `text` and `label` (a name), or `text` and `labels` (any number of names);
- preference: `prompt`, `chosen`, `rejected`, each a list of messages, and `tools` as above;
- rated answer: `prompt`, `completion` (lists of messages), `label` (true or false);
- prompt: `prompt` (messages), and where known `answer` (text), or `completion` (messages) and `reward` (a number).

A message is `{"role", "content"}`, the role being system, user, assistant or tool, the content always text. Calls of
the assistant stand in `tool_calls`: `[{"type": "function", "function": {"name", "arguments"}}]`, with an `id` where
the data has one and the arguments as an object, because that is what chat templates write out. A tool message may have
`name` and `tool_call_id`. Tool definitions have the OpenAI form `{"type": "function", "function": {...}}`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]
"""A canonical row, as the top of this module says."""

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


class RowDefectError(ValueError):
    """One row cannot be used.

    Attributes:
        reason: Key of `engine.data.conversations.REASONS`.
        detail: What exactly was found, for the first row of a reason.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@dataclass(slots=True)
class Tally:
    """Rows that are not used, or used changed, by reason; nothing is dropped without passing here.

    Attributes:
        counts: Rows by reason.
        places: The first rows of each reason.
        details: What exactly was found in the first row of a reason.
        told: Called with reason, place and detail of every row, by who wants them all.
    """

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    told: Callable[[str, str, str], None] | None = None

    def add(self, reason: str, where: str, detail: str = "") -> None:
        """Count one row under a reason; the first places and the first detail are kept for the message."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        places = self.places.setdefault(reason, [])
        if len(places) < MAX_ROWS_NAMED:
            places.append(where)
        if detail:
            self.details.setdefault(reason, detail)
        if self.told is not None:
            self.told(reason, where, detail)

    def wants_detail(self, reason: str) -> bool:
        """Return whether a detail of one more row would be kept or told."""
        return self.told is not None or reason not in self.details

    def absorb(self, later: "Tally") -> None:
        """Count the rows of another tally too, as if they came after those of this one."""
        for reason, count in later.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            places = self.places.setdefault(reason, [])
            places += later.places[reason][: MAX_ROWS_NAMED - len(places)]
        for reason, detail in later.details.items():
            self.details.setdefault(reason, detail)

    def total(self) -> int:
        """Return the number of rows counted."""
        return sum(self.counts.values())

    def named(self, reason: str) -> str:
        """Return the first places of a reason, such as `rows.jsonl:3, rows.jsonl:9 and 4 more`."""
        places = self.places.get(reason, [])
        more = self.counts.get(reason, 0) - len(places)
        return ", ".join(places) + (f" and {more:,} more" if more else "")


def turns(row: Row) -> Sequence[dict[str, Any]]:
    """Return the messages of a conversation row; empty for plain text."""
    messages: Sequence[dict[str, Any]] = row.get("messages", ())
    return messages


def spoken_text(turn: Mapping[str, Any]) -> str:
    """Return what a turn says, its tool calls written as JSON, one on a line."""
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", ())]
    return "\n".join([turn["content"], *calls] if turn["content"] else calls)


def asked(row: Row) -> Row:
    """Return a prompt row: one as it is, a conversation without its last answer, whose text is then the `answer`."""
    if "messages" not in row:
        return row
    messages = list(row["messages"])
    place = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    others = {key: value for key, value in row.items() if key != "messages"}
    return {**others, "prompt": messages[:place], "answer": spoken_text(messages[place])}


def last_answer(row: Row) -> str:
    """Return the last assistant turn of a conversation row; empty for plain text."""
    return next((spoken_text(turn) for turn in reversed(turns(row)) if turn["role"] == "assistant"), "")
