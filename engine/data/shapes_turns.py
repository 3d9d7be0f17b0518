"""Lists of turns as data has them (OpenAI messages, ShareGPT, transcripts) as canonical messages in a sound order."""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from engine.data.rows import RowDefectError, Tally
from engine.data.shapes_cells import as_text, is_blank, kind_of
from engine.data.shapes_tools import calls_in_text, calls_of
from engine.data.shapes_transcripts import is_transcript, transcript_messages
from engine.text import clean_line

Message = dict[str, Any]

_CALL_ROLES = ("function_call", "tool_call", "function-call")
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
    **dict.fromkeys(_CALL_ROLES, "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response", "ipython"), "tool"),
}
_INLINE_CALLS = ("<tool_call", "<function", "[TOOL_CALLS]", "<|python_tag|>")
"""How calls look in answers that spell them as text, as the data of Hermes does; a result may follow such an answer."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def looks_like_turns(value: object) -> bool:
    """Return whether a cell holds a list of turns, also as JSON in a string."""
    listed = as_list(value)
    return bool(listed) and all(looks_like_turn(turn) for turn in listed)


def looks_like_turn(value: object) -> bool:
    """Return whether a value is one turn: a role, and a content or calls."""
    if not isinstance(value, dict) or not isinstance(value.get("role", value.get("from")), str):
        return False
    return any(key in value for key in ("content", "value", "tool_calls", "function_call"))


def as_list(value: object) -> list[Any]:
    """Return a list, also one that a string spells as JSON (as CSV files have it); anything else is empty."""
    if isinstance(value, str) and value.lstrip()[:1] == "[" and value.rstrip()[-1:] == "]":
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return value if isinstance(value, list) else []


def read_turns(value: object, where: str, changed: Tally) -> list[Message]:
    """Return the turns of a cell as messages, in the order of the data, which is not checked here.

    Args:
        value: A list of turns, that as JSON in a string, or a transcript.
        where: Place of the row.
        changed: Counts what is used, but not as it stands.

    Raises:
        RowDefectError: No turns, a turn without role or text, an unknown role, a broken call.
    """
    if isinstance(value, str) and is_transcript(value):
        return transcript_messages(value, where, changed)
    listed = as_list(value)
    if not listed:
        raise RowDefectError("no_messages", clean_line(f"found {value!r}", max_chars=60))
    remarks: set[str] = set()
    messages: list[Message] = []
    for number, turn in enumerate(listed, 1):
        message = _plain_message(turn) or _message(turn, number, remarks)
        if "tool_calls" in message and _continues(turn, messages):
            messages[-1] = _with_calls(messages[-1], message)
        else:
            messages.append(message)
    for remark in sorted(remarks):
        changed.add(remark, where)
    return messages


def _plain_message(turn: object) -> Message | None:
    """Return a turn that is nothing but a role and text, as nearly all are: this way takes half the time (measured)."""
    if not isinstance(turn, dict) or len(turn) != 2:
        return None
    name, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    role = ROLE_ALIASES.get(name) if isinstance(name, str) and name not in _CALL_ROLES else None
    return {"role": role, "content": content} if role and isinstance(content, str) else None


def _message(turn: object, number: int, remarks: set[str]) -> Message:
    if not isinstance(turn, dict):
        raise RowDefectError("broken_message", f"message {number} is {kind_of(turn)}, no object")
    name = turn.get("role", turn.get("from"))
    if not isinstance(name, str):
        raise RowDefectError("broken_message", f"message {number} has no role")
    role = _role_of(name)
    if name.lower() in _CALL_ROLES:
        calls = calls_in_text(turn.get("content", turn.get("value")), number)
        return {"role": role, "content": "", "tool_calls": calls}
    calls = calls_of(turn, number) if role == "assistant" else []
    message: Message = {"role": role, "content": _content(turn, number, remarks, optional=bool(calls))}
    if calls:
        message["tool_calls"] = calls
    if role == "tool":
        message.update({key: turn[key] for key in ("name", "tool_call_id") if isinstance(turn.get(key), str)})
    if role == "assistant" and any(turn.get(key) for key in _THOUGHTS):
        remarks.add("thoughts_left_out")
    if role == "assistant" and turn.get("weight") == 0:
        remarks.add("weight_ignored")
    return message


def _role_of(name: str) -> str:
    role = ROLE_ALIASES.get(name.strip().lower())
    if role is None:
        near = get_close_matches(name.strip().lower(), ROLE_ALIASES, n=1)
        hint = f"nearest {near[0]!r}" if near else f"roles are {', '.join(dict.fromkeys(ROLE_ALIASES.values()))}"
        raise RowDefectError("unknown_role", clean_line(f"{name!r}, {hint}", max_chars=100))
    return role


def _content(turn: Mapping[str, Any], number: int, remarks: set[str], *, optional: bool) -> str:
    if "content" not in turn and "value" not in turn and not optional:
        raise RowDefectError("broken_message", f"message {number} has no content")
    content = _joined_parts(turn.get("content", turn.get("value")))
    if content is None and optional:
        return ""
    if isinstance(content, bool):
        raise RowDefectError("not_text", f"message {number} holds {kind_of(content)}")
    if isinstance(content, (int, float)):
        remarks.add("number_content")
    try:
        return as_text(content, "")
    except RowDefectError as defect:
        raise RowDefectError(defect.reason, f"message {number} holds {kind_of(content)}") from defect


def _joined_parts(content: object) -> object:
    """Return the text of a list of text parts (`[{"type": "text", "text": ...}]`); anything else as it is."""
    if isinstance(content, list) and content and all(_is_text_part(part) for part in content):
        return "".join(part["text"] for part in content)
    return content


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _continues(turn: Mapping[str, Any], messages: Sequence[Message]) -> bool:
    """Return whether a ShareGPT call belongs to the answer before it, as text and calls are one message elsewhere."""
    name = str(turn.get("role", turn.get("from"))).lower()
    return name in _CALL_ROLES and bool(messages) and messages[-1]["role"] == "assistant"


def _with_calls(message: Message, more: Message) -> Message:
    return {**message, "tool_calls": [*message.get("tool_calls", ()), *more["tool_calls"]]}


def conversation(messages: list[Message]) -> list[Message]:
    """Return messages as they are trained: a blank system message left out.

    Raises:
        RowDefectError: Turns out of order, no answer, an empty question or answer, a call without a result.
    """
    check_order(messages)
    for number, message in enumerate(messages, 1):
        if is_blank(message["content"]) and message["role"] in ("user", "assistant") and "tool_calls" not in message:
            reason = "empty_answer" if message["role"] == "assistant" else "empty_prompt"
            raise RowDefectError(reason, f"message {number}")
    return [message for message in messages if message["role"] != "system" or not is_blank(message["content"])]


def check_order(messages: Sequence[Message]) -> None:
    """Check that a conversation goes: system at most first, then user and assistant in turn, results after calls.

    Raises:
        RowDefectError: It does not, or nobody answers.
    """
    start = 1 if messages and messages[0]["role"] == "system" else 0
    if not any(message["role"] == "assistant" for message in messages):
        raise RowDefectError("no_answer")
    expected: tuple[str, ...] = ("user",)
    for number, message in enumerate(messages[start:], start + 1):
        if message["role"] not in expected:
            raise _out_of_order(number, message["role"], expected)
        expected = _after(message)
    _check_results(messages)


def _after(message: Message) -> tuple[str, ...]:
    """Return the roles that may follow a message."""
    if message["role"] == "user":
        return ("assistant",)
    if message["role"] == "tool":
        return ("assistant", "tool")
    if message.get("tool_calls"):
        return ("tool",)
    return ("user", "tool") if any(mark in message["content"] for mark in _INLINE_CALLS) else ("user",)


def _out_of_order(number: int, role: str, expected: Sequence[str]) -> RowDefectError:
    if expected == ("tool",):
        return RowDefectError("call_without_result", f"message {number} is {role}, a result was expected")
    if role == "tool":
        return RowDefectError("result_without_call", f"message {number}")
    return RowDefectError("role_order", f"message {number} is {role}, {expected[0]} was expected")


def _check_results(messages: Sequence[Message]) -> None:
    """Check calls and results by their ids, where both have them."""
    asked: set[str] = set()
    for number, message in enumerate(messages, 1):
        if message["role"] == "tool":
            identity = message.get("tool_call_id")
            if asked and identity is not None and identity not in asked:
                raise RowDefectError("result_without_call", f"message {number} answers an unknown call")
            asked.discard(str(identity))
            continue
        if asked and messages[number - 2].get("tool_call_id") is not None:
            raise RowDefectError("call_without_result", f"a call before message {number}")
        asked = {call["id"] for call in message.get("tool_calls", ()) if "id" in call}


def answer_turns(value: object, column: str, where: str, changed: Tally) -> list[Message]:
    """Return the messages of an answer that a cell holds: text, one turn, or a list of turns.

    Raises:
        RowDefectError: Empty, null, or no answer of the assistant.
    """
    if isinstance(value, str) and not as_list(value) and not is_transcript(value):
        if is_blank(value):
            raise RowDefectError("empty_answer", f"column {column!r}")
        return [{"role": "assistant", "content": value}]
    if value is None:
        raise RowDefectError("null_value", f"column {column!r}")
    if not isinstance(value, (dict, list, str)):
        raise RowDefectError("not_text", f"column {column!r} holds {kind_of(value)}")
    return read_turns([value] if isinstance(value, dict) else value, where, changed)


def prompt_turns(value: object, column: str, where: str, changed: Tally) -> list[Message]:
    """Return the messages of a prompt that a cell holds: text, one turn, or a list of turns.

    Raises:
        RowDefectError: Empty, null or no turns.
    """
    if isinstance(value, (list, dict)) or as_list(value) or (isinstance(value, str) and is_transcript(value)):
        return read_turns([value] if isinstance(value, dict) else value, where, changed)
    text = as_text(value, column)
    if is_blank(text):
        raise RowDefectError("empty_prompt", f"column {column!r}")
    return [{"role": "user", "content": text}]
