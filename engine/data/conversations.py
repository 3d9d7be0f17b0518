"""Raw rows to canonical ones, row by row, with a named reason for each row that cannot be used."""

from collections.abc import Callable, Sequence

from engine.data.rows import RawRow, Row, RowDefectError, Tally, last_answer, turns
from engine.data.shapes_cells import cell, filled_text, is_blank, joined_text, number_of, optional_text
from engine.data.shapes_labels import label_row, prompt_row
from engine.data.shapes_preference import preference_row, unpaired_row
from engine.data.shapes_roles import Format, Shape
from engine.data.shapes_tags import named_tags, span_row, tag_row
from engine.data.shapes_tools import tool_definitions
from engine.data.shapes_turns import Message, answer_turns, conversation, looks_like_turn, looks_like_turns, read_turns
from engine.planning.profiles import Finding
from engine.text import clean_line

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
    "broken_tools": "have tool definitions that cannot be read",
    "broken_tool_call": "have a tool call that cannot be read",
    "call_without_result": "have a tool call without its result",
    "result_without_call": "have a tool result without a call",
    "role_order": "have turns out of order (system first, then user and assistant in turn)",
    "no_answer": "have no turn of the assistant",
    "equal_answers": "have a chosen answer that equals the rejected one",
    "prompt_mismatch": "have a chosen and a rejected answer to different prompts",
    "missing_label": "have no label",
    "broken_label": "have a label that cannot be read",
    "broken_reward": "have a reward that is no number",
    "broken_tags": "have words or tags that cannot be read",
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


CHANGES: dict[str, tuple[str, str, str]] = {
    "trailing_turn": (
        "note",
        "{rows} with a turn that nobody answers (a question or a tool result); it is left out",
        "end",
    ),
    "open_call": ("note", "{rows} with a tool call; the call is the answer that is trained", "end"),
    "number_content": ("warning", "{rows} a number where text belongs; it is read as the text that spells it", "hold"),
    "number_prompt": ("warning", "{rows} a number as question, where others have words; it is read as spelled", "have"),
    "number_answer": ("warning", "{rows} a number as answer, where others have words; it is read as spelled", "have"),
    "number_text": ("warning", "{rows} a number as text, where others have words; it is read as spelled", "have"),
    "thoughts_left_out": ("warning", "{rows} thoughts in a field of their own, which are not trained on", "hold"),
    "weight_ignored": ("warning", "{rows} answers with weight 0, which are trained on like the others", "hold"),
    "merged_turns": ("note", "{rows} turns of one speaker in a row; they are read as one turn", "hold"),
    "joined_list": ("note", "{rows} text in pieces, joined with a space, or a line feed between lines", "hold"),
}
"""Severity, sentence and verb of each reason for which a row is used, but not as it stands."""
_CHANGE_FIXES = {
    "number_content": "Write the number in quotes, if the text is right.",
    **dict.fromkeys(
        ("number_prompt", "number_answer", "number_text"),
        "Look whether the column was meant to be words; write the numbers in quotes, if they are right.",
    ),
    "thoughts_left_out": "Write the thoughts into the content, as the chat template of the model has them.",
    "weight_ignored": "Remove those rows, if the answers are bad.",
}
_RARE_OPEN_CALLS = 0.5
"""Calls at the end are how some data is made; where most calls have results, one without has probably lost it."""


def canonical_rows(rows: Sequence[RawRow], shape: Shape, dropped: Tally, changed: Tally) -> list[Row]:
    """Return the usable rows in canonical form; the others are counted in `dropped`.

    Args:
        rows: Rows as the files have them.
        shape: How they are read.
        dropped: Filled with the rows left out.
        changed: Filled with the rows that are used, but not whole.
    """
    made = (canonical_row(row, shape, dropped, changed) for row in rows)
    return [row for row in made if row is not None]


def canonical_row(
    row: RawRow, shape: Shape, dropped: Tally, changed: Tally, tag_names: Sequence[str] | None = None
) -> Row | None:
    """Return one row in canonical form; None where it cannot be used, and is counted in `dropped`.

    Args:
        row: The row as the file has it.
        shape: How it is read.
        dropped: Filled with the rows left out.
        changed: Filled with the rows that are used, but not whole.
        tag_names: Names of tags that are written as numbers.
    """
    remarks = Tally()
    try:
        made = named_tags(_MAKERS[shape.format](row, shape.mapping, remarks), tag_names)
    except RowDefectError as defect:
        dropped.add(defect.reason, row.where, defect.detail)
        return None
    for reason in remarks.counts:
        changed.add(reason, row.where)
    return made


def _text_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    return {"id": row.where, "text": filled_text(row, mapping["text"], "empty_text", changed)}


def _label_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    return label_row(row, mapping)


def _prompt_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    question = filled_text(row, mapping["prompt"], "empty_prompt", changed)
    return _pair(row, mapping, question, _one_answer(row, mapping["completion"], changed))


def _alpaca_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    task = filled_text(row, mapping["instruction"], "empty_prompt", changed)
    answer = _one_answer(row, mapping["output"], changed)
    context = optional_text(row, mapping.get("input"))
    return _pair(row, mapping, f"{task}\n\n{context}" if context else task, answer)


def _source_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    source = joined_text(row, mapping["source"], "empty_prompt", changed)
    target = joined_text(row, mapping["target"], "empty_answer", changed)
    return _pair(row, mapping, source, {"role": "assistant", "content": target})


def _pair(row: RawRow, mapping: dict[str, str], question: str, answer: Message) -> Row:
    system = optional_text(row, mapping.get("system"))
    opening = [{"role": "system", "content": system}] if system else []
    return {"id": row.where, "messages": [*opening, {"role": "user", "content": question}, answer]}


def _one_answer(row: RawRow, column: str, changed: Tally) -> Message:
    """Return the answer of a pair: text, or one turn of the assistant, as preference rows have it."""
    value = row.values.get(column)
    if not looks_like_turn(value) and not (isinstance(value, list) and looks_like_turns(value)):
        return {"role": "assistant", "content": filled_text(row, column, "empty_answer", changed)}
    messages = answer_turns(value, column, row.where, changed)
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise RowDefectError("role_order", f"column {column!r} holds a conversation; map it as messages")
    if is_blank(messages[0]["content"]) and "tool_calls" not in messages[0]:
        raise RowDefectError("empty_answer", f"column {column!r}")
    return messages[0]


def _messages_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    messages = read_turns(row.values.get(mapping["messages"]), row.where, changed)
    system = optional_text(row, mapping.get("system"))
    if system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    if "completion" in mapping:
        column = mapping["completion"]
        messages += answer_turns(cell(row, column), column, row.where, changed)
    messages = conversation(messages)
    kept = _ending_with_answer(messages)
    if len(kept) < len(messages):
        changed.add("trailing_turn", row.where)
    elif "tool_calls" in kept[-1]:
        changed.add("open_call", row.where)
    column = mapping.get("tools", "")
    tools = tool_definitions(row.values.get(column), column) if column else []
    return {"id": row.where, "messages": kept, **({"tools": tools} if tools else {})}


def _ending_with_answer(messages: list[Message]) -> list[Message]:
    # A question without an answer teaches nothing; what comes before it still does.
    last = max(number for number, message in enumerate(messages) if message["role"] == "assistant")
    return messages[: last + 1]


_MAKERS: dict[Format, Callable[[RawRow, dict[str, str], Tally], Row]] = {
    "messages": _messages_row,
    "prompt_completion": _prompt_row,
    "alpaca": _alpaca_row,
    "source_target": _source_row,
    "text": _text_row,
    "text_label": _label_row,
    "word_tags": tag_row,
    "entity_spans": span_row,
    "preference": preference_row,
    "unpaired_preference": unpaired_row,
    "prompts": prompt_row,
}


def change_findings(changed: Tally, rows: Sequence[Row]) -> list[Finding]:
    """Return one finding for each way in which rows are used, but not as they stand.

    Args:
        changed: As filled by `canonical_rows`.
        rows: The usable rows, to tell what is usual in them.
    """
    told = (reason for reason in changed.counts if reason in CHANGES)
    return [_change_finding(reason, changed, rows) for reason in told if not _all_numbers(reason, rows)]


def _all_numbers(reason: str, rows: Sequence[Row]) -> bool:
    """Return whether a column of numbers is one throughout, as sums, marks and labels are: nothing is odd about it."""
    said = _NUMBERED.get(reason)
    return said is not None and all(number_of(said(row)) is not None for row in rows)


def _question(row: Row) -> str:
    return next((str(turn["content"]) for turn in turns(row) if turn["role"] == "user"), "")


def _text(row: Row) -> str:
    return str(row.get("text", ""))


_NUMBERED: dict[str, Callable[[Row], str]] = {
    "number_prompt": _question,
    "number_answer": last_answer,
    "number_text": _text,
}
"""Reasons that are told only where a column holds words too, and what the column holds in a canonical row."""


def _change_finding(reason: str, changed: Tally, rows: Sequence[Row]) -> Finding:
    severity, sentence, verb = CHANGES[reason]
    count, fix = changed.counts[reason], _CHANGE_FIXES.get(reason, "")
    if reason == "open_call" and count <= _RARE_OPEN_CALLS * _num_calling(rows):
        severity, fix = "warning", "Add the results of those calls and what the assistant makes of them."
    subject = f"1 row {_SINGULAR.get(verb, verb + 's')}" if count == 1 else f"{count} rows {verb}"
    message = f"{sentence.format(rows=subject)}: {changed.named(reason)}."
    return Finding.model_validate(
        {
            "code": f"data.{reason}",
            "message": clean_line(message, max_chars=600),
            "fix": fix,
            "path": "data.source",
            "severity": severity,
        }
    )


def _num_calling(rows: Sequence[Row]) -> int:
    return sum(any("tool_calls" in turn for turn in row.get("messages", ())) for row in rows)
