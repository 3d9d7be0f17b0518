"""The parts of a canonical row that checks look at: its texts, the question it asks and the answer it teaches."""

import hashlib
import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from engine.data.rows import Row

_NO_TEXT = frozenset({"id", "role", "type", "name", "tool_call_id", "label", "labels", "tags"})
"""Keys whose values steer and are not read as text."""
_DIGEST_BYTES = 16


def texts_of(value: Any) -> list[str]:
    """Return the texts of a row, or of a part of one, in order."""
    found: list[str] = []
    _add_texts(value, found)
    return found


def _add_texts(value: Any, found: list[str]) -> None:
    if isinstance(value, str):
        found.append(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in _NO_TEXT:
                continue
            # Most values are texts; a call for each would take most of the time.
            if isinstance(item, str):
                found.append(item)
            else:
                _add_texts(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _add_texts(item, found)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a copy of a row, or of a part of one, with every text changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: item if key in _NO_TEXT else with_texts(item, change) for key, item in value.items()}
    return [with_texts(item, change) for item in value] if isinstance(value, list | tuple) else value


def parts_of(row: Row) -> tuple[str, str]:
    """Return what a row asks and what it answers; plain text asks nothing.

    Text with a label asks the text and answers the label; a rated answer asks prompt and answer, and answers the
    rating; a preference answers with both sides.
    """
    if "messages" in row:
        return _of_conversation(row["messages"])
    if "chosen" in row:
        return _written(row.get("prompt")), "\n\n".join((_written(row["chosen"]), _written(row["rejected"])))
    if "tokens" in row:
        return " ".join(row["tokens"]), json.dumps(row["tags"], ensure_ascii=False)
    if "label" in row or "labels" in row:
        asked = "\n\n".join(_written(row[key]) for key in ("text", "prompt", "completion") if key in row)
        return asked, json.dumps(row.get("label", row.get("labels")), ensure_ascii=False)
    if "prompt" in row:
        return _written(row["prompt"]), _written(row.get("answer", row.get("completion", "")))
    return "", str(row.get("text", ""))


def has_label(row: Row) -> bool:
    """Return whether a row says which class, or which of two ratings, it belongs to."""
    return "label" in row or "labels" in row


def _of_conversation(messages: Sequence[dict[str, Any]]) -> tuple[str, str]:
    last = next((at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "assistant"), len(messages))
    return "\n".join(map(_message, messages[:last])), "\n".join(map(_message, messages[last:]))


def _written(value: Any) -> str:
    """Return a text, or the messages of a list, as one text."""
    if isinstance(value, list):
        return "\n".join(_message(message) for message in value)
    return "" if value is None else str(value)


def _message(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls")
    content = str(message.get("content") or "")
    return content + json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else content


def digest(*parts: object) -> bytes:
    """Return 16 bytes that stand for some values; equal values give equal bytes in every process."""
    text = json.dumps(parts, ensure_ascii=True, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).digest()


def plain(text: str) -> str:
    """Return a text without the differences that say nothing: case, white space, width of letters, a last full stop."""
    whole = text if text.isascii() else unicodedata.normalize("NFKC", text)
    folded = " ".join(whole.casefold().split())
    return folded.rstrip(".!?。！？ ")
