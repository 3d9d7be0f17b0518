"""Preference rows: two answers to one prompt, told apart from the many ways in which data writes them down."""

from engine.data.rows import RawRow, Row, RowDefectError, Tally
from engine.data.shapes_cells import cell, optional_text, truth_of
from engine.data.shapes_tools import tool_definitions
from engine.data.shapes_turns import Message, answer_turns, conversation, prompt_turns
from engine.text import clean_line


def preference_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    """Return `{"id", "prompt", "chosen", "rejected"}` of a row.

    The answers may repeat the prompt (whole conversations, as lists of messages or transcripts): what both have in
    common at the start is the prompt then. A prompt column must say the same.

    Raises:
        RowDefectError: An empty or missing side, equal sides, sides that answer different prompts.
    """
    given = _given_prompt(row, mapping, changed)
    sides = {
        role: answer_turns(cell(row, mapping[role]), mapping[role], row.where, changed)
        for role in ("chosen", "rejected")
    }
    chosen, rejected = sides["chosen"], sides["rejected"]
    whole = [side[0]["role"] != "assistant" for side in (chosen, rejected)]
    if any(whole) and not all(whole):
        raise RowDefectError("prompt_mismatch", "one side repeats the prompt, the other does not")
    if all(whole):
        prompt, chosen, rejected = _parted(chosen, rejected)
        prompt = _agreed(given, prompt)
    else:
        prompt = given
    if not prompt:
        raise RowDefectError("empty_prompt", "the sides hold answers only, and no column holds the prompt")
    for side in (chosen, rejected):
        _check_answer(prompt, side)
    if chosen == rejected:
        raise RowDefectError("equal_answers")
    return {"id": row.where, "prompt": prompt, "chosen": chosen, "rejected": rejected, **_tools(row, mapping)}


def unpaired_row(row: RawRow, mapping: dict[str, str], changed: Tally) -> Row:
    """Return `{"id", "prompt", "completion", "label"}` of a row.

    Raises:
        RowDefectError: An empty prompt or answer, or a label that is neither true nor false.
    """
    prompt = _given_prompt(row, mapping, changed)
    completion = answer_turns(cell(row, mapping["completion"]), mapping["completion"], row.where, changed)
    _check_answer(prompt, completion)
    value = cell(row, mapping["label"])
    label = truth_of(value)
    if label is None:
        if value is None or value == "":
            raise RowDefectError("missing_label")
        raise RowDefectError("broken_label", clean_line(f"{value!r} is neither true nor false", max_chars=80))
    return {"id": row.where, "prompt": prompt, "completion": completion, "label": label, **_tools(row, mapping)}


def prompt_of(row: RawRow, mapping: dict[str, str], changed: Tally) -> list[Message]:
    """Return the prompt of a row that has one, the system column in front.

    Raises:
        RowDefectError: Empty, null, or it does not end with something to answer.
    """
    prompt = _given_prompt(row, mapping, changed)
    conversation([*prompt, {"role": "assistant", "content": "."}])
    return prompt


def _given_prompt(row: RawRow, mapping: dict[str, str], changed: Tally) -> list[Message]:
    column = mapping.get("prompt")
    if column is None:
        return []
    prompt = prompt_turns(cell(row, column), column, row.where, changed)
    system = optional_text(row, mapping.get("system"))
    return [{"role": "system", "content": system}, *prompt] if system and prompt[0]["role"] != "system" else prompt


def _parted(chosen: list[Message], rejected: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """Return what two conversations have in common at the start, and how each goes on."""
    common = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        common += 1
    if common == len(chosen) == len(rejected):
        raise RowDefectError("equal_answers")
    # The answers begin where the assistant speaks: one that the other side goes on from is no prompt yet.
    if common and common == min(len(chosen), len(rejected)):
        common -= 1
    if not common:
        raise RowDefectError("prompt_mismatch", "the two sides begin with different messages")
    return chosen[:common], chosen[common:], rejected[common:]


def _agreed(given: list[Message], common: list[Message]) -> list[Message]:
    """Return the prompt that the sides have in common, checked against the one that a column gives."""
    if not given:
        return common
    spoken = [message for message in common if message["role"] != "system"]
    named = [message for message in given if message["role"] != "system"]
    # A prompt column often repeats only the first or the last question of several.
    if not any(_same(named, part) for part in (spoken, spoken[:1], spoken[-1:])):
        raise RowDefectError("prompt_mismatch", "the column with the prompt says something else than the two sides")
    return [given[0], *common] if given[0]["role"] == "system" and common[0]["role"] != "system" else common


def _same(some: list[Message], other: list[Message]) -> bool:
    return [(m["role"], m["content"].strip()) for m in some] == [(m["role"], m["content"].strip()) for m in other]


def _check_answer(prompt: list[Message], side: list[Message]) -> None:
    """Check that an answer follows its prompt.

    Raises:
        RowDefectError: Out of order, empty, or not answered at the end.
    """
    if side[0]["role"] != "assistant":
        raise RowDefectError("prompt_mismatch", f"after the common beginning one side goes on with {side[0]['role']}")
    if side[-1]["role"] != "assistant":
        raise RowDefectError("no_answer", "one side ends with a question")
    conversation([*prompt, *side])


def _tools(row: RawRow, mapping: dict[str, str]) -> Row:
    column = mapping.get("tools")
    tools = tool_definitions(row.values.get(column), column) if column else []
    return {"tools": tools} if tools else {}
