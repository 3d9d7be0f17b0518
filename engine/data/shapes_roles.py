"""The shapes that rows can have, and the roles that columns play in each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from engine.catalog.objectives import RowFormat
from engine.text import clean_line

Format: TypeAlias = RowFormat

NEEDED: dict[Format, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "alpaca": ("instruction", "output"),
    "source_target": ("source", "target"),
    "text": ("text",),
    "text_label": ("text", "label"),
    "word_tags": ("tokens", "tags"),
    "entity_spans": ("text", "entities"),
    "preference": ("chosen", "rejected"),
    "unpaired_preference": ("prompt", "completion", "label"),
    "prompts": ("prompt",),
}
OPTIONAL: dict[Format, tuple[str, ...]] = {
    # A completion after messages is the last answer: the chosen side of preference rows, when somebody asks for it.
    "messages": ("system", "tools", "completion"),
    "prompt_completion": ("system",),
    "alpaca": ("input", "system"),
    "source_target": ("system",),
    "text": (),
    "text_label": ("label_name",),
    "word_tags": (),
    "entity_spans": (),
    "preference": ("prompt", "system", "tools"),
    "unpaired_preference": ("system", "tools"),
    "prompts": ("answer", "completion", "reward", "system"),
}
ROLES = tuple(dict.fromkeys(role for table in (NEEDED, OPTIONAL) for roles in table.values() for role in roles))
_LISTED_COLUMNS = 20


def roles_of(shape: Format) -> tuple[str, ...]:
    """Return the roles of a shape, those that it needs first."""
    return (*NEEDED[shape], *OPTIONAL[shape])


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read the rows, to be offered to a person.

    Attributes:
        format: Shape of the rows.
        mapping: `{role: column}`.
        evidence: One sentence that says why, and what is left out.
        confidence: From 0 to 1; from `engine.data.formats.TAKEN_FROM` on it is taken without a question.
        example: The first row that can be read so, in canonical form; empty when none of the first rows can.
    """

    format: Format
    mapping: dict[str, str]
    evidence: str
    confidence: float
    example: dict[str, Any] = field(default_factory=dict)


def listed(columns: Sequence[str]) -> str:
    """Return columns for a message: the first twenty, quoted, and how many more there are."""
    more = len(columns) - _LISTED_COLUMNS
    return ", ".join(repr(column) for column in columns[:_LISTED_COLUMNS]) + (f" and {more} more" if more > 0 else "")


def evidence_of(shape: Format, mapping: dict[str, str], columns: Sequence[str], why: str) -> str:
    """Return the sentence that is shown: what is read as what, why, and which columns are left out."""
    used = " and ".join(f"{column!r} as {role}" if column != role else repr(column) for role, column in mapping.items())
    left = [column for column in columns if column not in mapping.values()]
    ignored = f"; ignored: {listed(left)}" if left else ""
    return clean_line(f"Read as {shape}: {used}, {why}{ignored}.", max_chars=500)
