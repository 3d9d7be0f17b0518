"""Definitions of tools and calls of them, as the many forms of data have them, in the one form of chat templates."""

import json
from collections.abc import Mapping
from typing import Any

from engine.data.rows import RowDefectError
from engine.data.shapes_cells import kind_of
from engine.text import clean_line


def parse_json(value: object, reason: str, what: str) -> Any:
    """Return a value, parsed where it is JSON in a string.

    Raises:
        RowDefectError: The string is no JSON, under `reason`.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowDefectError(reason, clean_line(f"{what} is not JSON: {error}", max_chars=120)) from error


def tool_definitions(value: object, column: str) -> list[dict[str, Any]]:
    """Return the tools of a row in the OpenAI form; empty for null, an empty string or an empty list.

    Args:
        value: A list of `{"type": "function", "function": {...}}` or of `{"name", "description", "parameters"}`, or
            that as JSON in a string.
        column: For messages.

    Raises:
        RowDefectError: The cell is something else.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    tools = parse_json(value, "broken_tools", f"column {column!r}")
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise RowDefectError("broken_tools", f"column {column!r} holds {kind_of(tools)}")
    return [_definition(tool, number) for number, tool in enumerate(tools, 1)]


def _definition(tool: object, number: int) -> dict[str, Any]:
    tool = parse_json(tool, "broken_tools", f"tool {number}")
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not _is_name(function.get("name")):
        raise RowDefectError("broken_tools", f"tool {number} has no name")
    return {"type": "function", "function": _without_nulls(function)}


def _without_nulls(value: Any) -> Any:
    """Return a definition without keys that are null, which columnar files put in where rows have different tools."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip())


def calls_of(message: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
    """Return the calls of an OpenAI message, from `tool_calls` or the older `function_call`.

    Raises:
        RowDefectError: A call without a name, or with arguments that are no object.
    """
    calls = message.get("tool_calls")
    if not calls and message.get("function_call"):
        calls = [message["function_call"]]
    calls = parse_json(calls, "broken_tool_call", f"message {number}")
    if not calls:
        return []
    if not isinstance(calls, list):
        raise RowDefectError("broken_tool_call", f"message {number} holds {kind_of(calls)} as tool_calls")
    return [_call(call, number) for call in calls]


def calls_in_text(text: object, number: int) -> list[dict[str, Any]]:
    """Return the calls that a ShareGPT turn `function_call` spells as JSON: one object or a list of them.

    Raises:
        RowDefectError: No JSON, or a call without a name or with arguments that are no object.
    """
    calls = parse_json(text, "broken_tool_call", f"message {number}")
    calls = [calls] if isinstance(calls, dict) else calls
    if not isinstance(calls, list) or not calls:
        raise RowDefectError("broken_tool_call", f"message {number} holds no call")
    return [_call(call, number) for call in calls]


def _call(call: object, number: int) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or not _is_name(function.get("name")):
        raise RowDefectError("broken_tool_call", f"message {number} has a call without a name")
    spelled = function.get("arguments", function.get("parameters"))
    blank = spelled is None or (isinstance(spelled, str) and not spelled.strip())
    arguments = {} if blank else parse_json(spelled, "broken_tool_call", f"the arguments in message {number}")
    if not isinstance(arguments, dict):
        detail = f"message {number} has {kind_of(arguments)} as arguments, an object was expected"
        raise RowDefectError("broken_tool_call", detail)
    identity = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", **identity, "function": {"name": function["name"], "arguments": arguments}}
