"""Which shape rows have, with the evidence, and which column plays which role."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from engine.data.rows import RawRow
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import DataSection
from engine.text import clean_line

Format = Literal["messages", "prompt_completion", "alpaca", "text"]

NEEDED: dict[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "text": ("text",),
}
OPTIONAL: dict[Format, tuple[str, ...]] = {
    "messages": (),
    "prompt_completion": ("system",),
    "alpaca": ("input", "system"),
    "text": (),
}
ROLES = tuple(dict.fromkeys(role for table in (NEEDED, OPTIONAL) for roles in table.values() for role in roles))

# Usual names of columns, the surest first. A name counts whatever its case.
USUAL: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialog", "chat"),
    "instruction": ("instruction", "instructions"),
    "input": ("input", "context"),
    "output": ("output", "response", "answer", "completion"),
    "prompt": ("prompt", "question", "instruction", "query", "request", "problem", "user", "human", "input", "source"),
    "completion": (
        "completion",
        "answer",
        "response",
        "output",
        "reply",
        "command",
        "solution",
        "assistant",
        "target",
        "chosen_response",
    ),
    "text": ("text", "content", "document", "body", "passage"),
    "system": ("system", "system_prompt"),
}
_CHECKED_ROWS = 1000
_LISTED_COLUMNS = 20


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows are read.

    Attributes:
        format: Shape of the rows.
        mapping: `{role: column}` in use.
        evidence: One sentence that says why.
        columns: All columns, in order of appearance.
    """

    format: Format
    mapping: dict[str, str]
    evidence: str
    columns: list[str] = field(default_factory=list)


def columns_of(rows: Iterable[RawRow]) -> list[str]:
    """Return the columns of all rows in order of appearance."""
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row.values))
    return list(columns)


def find_shape(rows: Sequence[RawRow], data: DataSection, *, objective: str) -> Shape:
    """Return how the rows are read: an explicit mapping wins, then the format, then the usual names.

    Args:
        rows: Rows of all files.
        data: The recipe's `data` section.
        objective: `chat` needs answers, `domain-adaptation` plain text.

    Raises:
        ProblemError: No usable columns, naming those found; or a mapping to a role or column that is not there.
    """
    columns = columns_of(rows)
    _check_mapping(data.mapping, columns)
    chosen = data.format or _format_of_mapping(data.mapping)
    candidates = [chosen] if chosen else _candidates(objective)
    for candidate in candidates:
        mapping = _bind(candidate, columns, data.mapping, rows)
        if mapping is not None:
            return Shape(candidate, mapping, _evidence(candidate, mapping, columns, data), columns)
    raise _no_shape(columns, chosen, objective, rows)


def _candidates(objective: str) -> list[Format]:
    return ["text"] if objective == "domain-adaptation" else ["messages", "alpaca", "prompt_completion"]


def _format_of_mapping(mapping: dict[str, str]) -> Format | None:
    if not mapping:
        return None
    fits = [name for name in NEEDED if set(mapping) <= {*NEEDED[name], *OPTIONAL[name]}]
    if fits:
        return fits[0]
    raise ProblemError(
        Problem(
            "data.mapping_mixed",
            f"data.mapping mixes roles of different shapes: {', '.join(mapping)}.",
            "Map prompt and completion, or instruction, input and output, or messages, or text.",
            path="data.mapping",
        )
    )


def _check_mapping(mapping: dict[str, str], columns: list[str]) -> None:
    for role, column in mapping.items():
        if role not in ROLES:
            near = get_close_matches(role, ROLES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Roles are {', '.join(ROLES)}."
            raise ProblemError(
                Problem(
                    "data.unknown_role", clean_line(f"data.mapping: {role!r} is no role."), hint, path="data.mapping"
                )
            )
        if column not in columns:
            near = get_close_matches(column, columns, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Map one of the columns found."
            message = f"The data has no column {column!r} for the role {role}; found: {_listed(columns)}."
            raise ProblemError(
                Problem("data.missing_column", clean_line(message), clean_line(hint), path="data.mapping")
            )


def _bind(shape: Format, columns: list[str], given: dict[str, str], rows: Sequence[RawRow]) -> dict[str, str] | None:
    """Return `{role: column}` of a shape, or None when a role finds no column."""
    if not set(given) <= {*NEEDED[shape], *OPTIONAL[shape]}:
        return None
    mapping = dict(given)
    for role in (*NEEDED[shape], *OPTIONAL[shape]):
        if role not in mapping:
            column = _usual_column(role, columns, set(mapping.values()), rows)
            if column is not None:
                mapping[role] = column
    complete = all(role in mapping for role in NEEDED[shape])
    # Two columns of instruction and output alone are a prompt and its completion.
    if shape == "alpaca" and "input" not in mapping and not given:
        return None
    return mapping if complete else None


def _usual_column(role: str, columns: list[str], taken: set[str], rows: Sequence[RawRow]) -> str | None:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    for name in USUAL[role]:
        column = by_name.get(name)
        if column is not None and column not in taken and _holds(role, column, rows):
            return column
    return None


def _holds(role: str, column: str, rows: Sequence[RawRow]) -> bool:
    """Return whether the first filled cells are of the kind that the role needs."""
    filled = (row.values.get(column) for row in rows[:_CHECKED_ROWS])
    kinds = [isinstance(value, list) for value in filled if value is not None]
    lists = sum(kinds)
    return lists > len(kinds) / 2 if role == "messages" else lists <= len(kinds) / 2


def _evidence(shape: Format, mapping: dict[str, str], columns: list[str], data: DataSection) -> str:
    used = " and ".join(f"{column!r} as {role}" if column != role else repr(column) for role, column in mapping.items())
    left = [column for column in columns if column not in mapping.values()]
    why = "as the recipe says" if data.mapping or data.format else "by their names"
    ignored = f"; ignored: {_listed(left)}" if left else ""
    return clean_line(f"Read as {shape}: {used}, {why}{ignored}.", max_chars=400)


def _listed(columns: Sequence[str]) -> str:
    more = len(columns) - _LISTED_COLUMNS
    return ", ".join(repr(column) for column in columns[:_LISTED_COLUMNS]) + (f" and {more} more" if more > 0 else "")


def _no_shape(columns: list[str], chosen: Format | None, objective: str, rows: Sequence[RawRow]) -> ProblemError:
    found = _listed(columns) or "none"
    if chosen:
        message = (
            f"The rows cannot be read as {chosen}: it needs {' and '.join(NEEDED[chosen])}; columns found: {found}."
        )
        fix = f"Set data.mapping, such as {NEEDED[chosen][-1]}: COLUMN."
    elif objective == "domain-adaptation":
        message = f"No column of plain text was found; columns found: {found}."
        fix = "Set data.mapping to text: COLUMN, or choose the objective chat for questions with answers."
    else:
        message = f"No columns of questions and answers were found; columns found: {found}."
        fix = "Set data.mapping, such as prompt: COLUMN, completion: COLUMN."
        if _usual_column("text", columns, set(), rows):
            fix += " For plain text choose the objective domain-adaptation."
    return ProblemError(Problem("data.no_usable_column", clean_line(message), fix, path="data.mapping"))
