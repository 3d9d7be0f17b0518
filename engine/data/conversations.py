"""Raw rows to canonical ones, row by row, with a named reason for each row that cannot be used."""

import json
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from engine.data.formats import Shape
from engine.data.rows import RawRow, Row, Tally
from engine.text import clean_line

ROLE_ALIASES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
}
_TOOL_ROLES = ("tool", "function", "function_call", "function_response", "observation", "ipython")

REASONS = {
    "missing_column": "lack a column that is needed",
    "null_value": "have null where text is needed",
    "not_text": "have something other than text where text is needed",
    "empty_answer": "have an empty answer",
    "empty_prompt": "have an empty question",
    "empty_text": "have empty text",
    "no_messages": "have no list of messages",
    "broken_message": "have a message without role or content",
    "unknown_role": "have a message with an unknown role",
    "tool_turn": "hold tool calls, which are not trained on yet",
    "role_order": "have turns out of order (system first, then user and assistant in turn)",
    "no_answer": "have no turn of the assistant",
    "duplicate": "are equal to an earlier row",
    "in_held_out": "are equal to a held-out row",
    "row_limit": "are beyond data.max_rows",
    "not_drawn": "were not drawn, because the file has a weight below 1",
}
"""What each reason says after a count: `3 rows have an empty answer`."""
_SINGULAR = {"were": "was", "have": "has", "are": "is", "hold": "holds", "lack": "lacks"}


def counted(reason: str, count: int) -> str:
    """Return a count of rows with what is the matter with them: `1 row has an empty answer`."""
    if count != 1:
        return f"{count} rows {REASONS[reason]}"
    verb, _, rest = REASONS[reason].partition(" ")
    return f"1 row {_SINGULAR[verb]} {rest}"


class RowDefectError(ValueError):
    """One row cannot be used.

    Attributes:
        reason: Key of `REASONS`.
        detail: What exactly was found, for the first row of a reason.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def canonical_rows(rows: Sequence[RawRow], shape: Shape, dropped: Tally, changed: Tally) -> list[Row]:
    """Return the usable rows in canonical form; the others are counted in `dropped`.

    Args:
        rows: Rows as the files have them.
        shape: How they are read.
        dropped: Filled with the rows left out.
        changed: Filled with the rows that are used, but not whole.
    """
    usable: list[Row] = []
    for row in rows:
        try:
            usable.append(_canonical(row, shape, changed))
        except RowDefectError as defect:
            dropped.add(defect.reason, row.where, defect.detail)
    return usable


def _canonical(row: RawRow, shape: Shape, changed: Tally) -> Row:
    if shape.format == "text":
        return {"id": row.where, "text": _text(row, shape.mapping["text"], "empty_text")}
    if shape.format == "messages":
        messages = _messages(row.values.get(shape.mapping["messages"]))
        kept = _ending_with_answer(messages)
        if len(kept) < len(messages):
            changed.add("trailing_turn", row.where)
        return {"id": row.where, "messages": kept}
    return {"id": row.where, "messages": _pair(row, shape.mapping)}


def _pair(row: RawRow, mapping: dict[str, str]) -> list[dict[str, str]]:
    prompt = _text(row, mapping.get("prompt", mapping.get("instruction", "")), "empty_prompt")
    answer = _text(row, mapping.get("completion", mapping.get("output", "")), "empty_answer")
    context = _optional(row, mapping.get("input"))
    system = _optional(row, mapping.get("system"))
    opening = [{"role": "system", "content": system}] if system else []
    question = f"{prompt}\n\n{context}" if context else prompt
    return [*opening, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _text(row: RawRow, column: str, if_empty: str) -> str:
    if column not in row.values:
        raise RowDefectError("missing_column", f"{column!r} is not among {', '.join(map(repr, row.values))}")
    text = as_text(row.values[column], column)
    if not text.strip():
        raise RowDefectError(if_empty, f"column {column!r}")
    return text


def _optional(row: RawRow, column: str | None) -> str:
    value = row.values.get(column) if column else None
    text = "" if value is None else as_text(value, str(column))
    return text if text.strip() else ""


def as_text(value: object, column: str) -> str:
    """Return the text of a cell; a JSON number is the text that the file spells.

    Raises:
        RowDefectError: Null, a list or an object.
    """
    if isinstance(value, str):
        return value
    if value is None:
        raise RowDefectError("null_value", f"column {column!r}")
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
    raise RowDefectError("not_text", f"column {column!r} holds {kind}")


def _messages(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise RowDefectError("no_messages", clean_line(f"found {value!r}", max_chars=60))
    messages = [_message(message, number) for number, message in enumerate(value, 1)]
    _check_order([message["role"] for message in messages])
    for number, message in enumerate(messages, 1):
        if not message["content"].strip() and message["role"] != "system":
            reason = "empty_answer" if message["role"] == "assistant" else "empty_prompt"
            raise RowDefectError(reason, f"message {number}")
    return [message for message in messages if message["content"].strip()]


def _message(message: object, number: int) -> dict[str, str]:
    if not isinstance(message, dict):
        raise RowDefectError("broken_message", f"message {number} is no object")
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if message.get("tool_calls") or role in _TOOL_ROLES:
        raise RowDefectError("tool_turn", f"message {number}")
    if not isinstance(role, str):
        raise RowDefectError("broken_message", f"message {number} has no role")
    if role.lower() not in ROLE_ALIASES:
        near = get_close_matches(role.lower(), ROLE_ALIASES, n=1)
        hint = f", nearest {near[0]!r}" if near else ""
        raise RowDefectError("unknown_role", clean_line(f"{role!r}{hint}", max_chars=80))
    return {"role": ROLE_ALIASES[role.lower()], "content": as_text(_joined_parts(content), f"message {number}")}


def _joined_parts(content: object) -> object:
    """Return the text of a list of text parts (`[{"type": "text", "text": ...}]`); anything else as it is."""
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _check_order(roles: list[str]) -> None:
    spoken = roles[1:] if roles[0] == "system" else roles
    if "assistant" not in spoken:
        raise RowDefectError("no_answer")
    for number, role in enumerate(spoken):
        expected = "user" if number % 2 == 0 else "assistant"
        if role != expected:
            at = number + 1 + len(roles) - len(spoken)
            raise RowDefectError("role_order", f"message {at} is {role}, {expected} was expected")


def _ending_with_answer(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    # A question without an answer teaches nothing; what comes before it still does.
    return messages[:-1] if messages[-1]["role"] == "user" else messages
