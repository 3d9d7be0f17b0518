"""Which column plays which role: the roles, the columns that they can be bound to, and the first row as it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.planning.profiles import DataProfile
from engine.text import clean_line
from tui.backend import ShapeLook
from tui.widgets.choice_list import ChoiceList
from tui.widgets.help_line import Explanation
from tui.wizard.draft import Draft
from tui.wizard.step_view import Answered, Explained

NOTHING = "∅"
"""Row id of "no column" for a role, and of "detect it" for the shape."""

SHAPES = {
    "messages": "conversations: a list of role and content",
    "prompt_completion": "a prompt and its answer",
    "alpaca": "instruction, input and output",
    "source_target": "a source text and what it becomes",
    "text": "running text",
}
ROLES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "system", "tools", "completion"),
    "prompt_completion": ("prompt", "completion", "system"),
    "alpaca": ("instruction", "input", "output", "system"),
    "source_target": ("source", "target", "system"),
    "text": ("text",),
}
ROLE_HELP = {
    "shape": "How a row is read. Enter chooses another shape; the file itself is never changed.",
    "messages": "The column with the turns of a conversation.",
    "prompt": "The column with what the model is asked; nothing is learned from it.",
    "completion": "The column with the answer that the model learns to give.",
    "instruction": "The column with the task.",
    "input": "The column with the material that the task is about; may be empty.",
    "output": "The column with the answer that the model learns to give.",
    "source": "The column with the text that is summarised, translated or rewritten.",
    "target": "The column with what the model learns to make of it.",
    "tools": "The column with the definitions of tools that the conversation may call.",
    "system": "The column with a system message for the row; leave it out when there is none.",
    "text": "The column with the text that the model reads.",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read, or would be.

    Attributes:
        format: Shape of the rows; empty while there is none.
        mapping: `{role: column}`.
        columns: `{column: its first cell}`, in order; the cell is empty where nobody looked.
        example: The first row as it is read.
    """

    format: str
    mapping: Mapping[str, str]
    columns: Mapping[str, str]
    example: Mapping[str, Any]


def reading_of(draft: Draft, profile: DataProfile | None, look: ShapeLook | None) -> Reading:
    """Return the reading in force: of the profile, else of the answers, else the likeliest one."""
    cells = dict(look.columns) if look is not None else {}
    if profile is not None:
        columns = {column: cells.get(column, "") for column in profile.columns} or cells
        example = profile.examples[0] if profile.examples else {}
        return Reading(profile.format or "", profile.mapping, columns, example)
    likeliest = look.offers[0] if look is not None and look.offers else None
    chosen, mapping = draft.value("data.format"), draft.value("data.mapping")
    if chosen or mapping:
        return Reading(chosen or _format_of(mapping or {}), mapping or {}, cells, {})
    if likeliest is not None:
        return Reading(likeliest.format, likeliest.mapping, cells, likeliest.example)
    text = draft.value("objective") == "domain-adaptation"
    return Reading("text" if text else "prompt_completion", {}, cells, {})


def _format_of(mapping: Mapping[str, str]) -> str:
    return next((name for name, roles in ROLES.items() if set(mapping) <= set(roles)), "")


def role_rows(draft: Draft, reading: Reading) -> list[tuple[str, Content]]:
    """Return `(row id, content)` for the shape and for each role of it."""
    rows = [("shape", _row("shape", reading.format, "", by_you=bool(draft.value("data.format"))))]
    mapped = draft.value("data.mapping") or {}
    roles = ROLES.get(reading.format, ())
    for role in (*roles, *(role for role in reading.mapping if role not in roles)):
        column = reading.mapping.get(role, "")
        rows.append((role, _row(role, column, reading.columns.get(column, ""), by_you=role in mapped)))
    return rows


def _row(role: str, column: str, cell: str, *, by_you: bool) -> Content:
    shown = clean_line(column, max_chars=22) if column else "none"
    return Content.assemble(
        (f"  {clean_line(role):<14}", "$text-muted"),
        (f"← {shown:<24}", "bold" if column else "$text-muted"),
        (f"{'you' if by_you else 'detected' if column else '':<10}", "$accent" if by_you else "$text-muted"),
        (clean_line(cell, max_chars=80), "$text-disabled"),
    )


def column_rows(role: str, reading: Reading) -> list[tuple[str, Content]]:
    """Return `(row id, content)` of what a role can be bound to, each column with its first cell."""
    if role == "shape":
        rows = [(NOTHING, Content("  Detect it from the columns"))]
        return rows + [(name, Content(f"  {name:<20}{text}")) for name, text in SHAPES.items()]
    rows = [(NOTHING, Content(f"  No column for {clean_line(role)}"))]
    for column, cell in reading.columns.items():
        parts = [(f"  {clean_line(column, max_chars=28):<30}", ""), (clean_line(cell, max_chars=120), "$text-muted")]
        rows.append((column, Content.assemble(*parts)))
    return rows


def rebound_mapping(mapping: Mapping[str, str], role: str, column: str) -> dict[str, str]:
    """Return a mapping with one role bound to another column."""
    bound = {name: source for name, source in mapping.items() if name != role}
    if column != NOTHING:
        bound[role] = column
    return bound


class ColumnsView(Vertical):
    """Roles and their columns over the first row as it is read; enter binds a role to another column."""

    DEFAULT_CSS = """
    ColumnsView {
        height: 1fr;
        & > #columns-note { height: auto; max-height: 4; padding: 0 1; }
        & > #data-columns { height: auto; max-height: 10; text-wrap: nowrap; text-overflow: ellipsis; }
        & > #columns-example { height: 1fr; padding: 0 1; margin: 1 0 0 0; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="data-columns-view")
        self._role = ""
        self._draft = Draft()
        self._reading = Reading("", {}, {}, {})

    def compose(self) -> ComposeResult:
        """Yield note, list and row."""
        yield Static(id="columns-note")
        yield ChoiceList(list_id="data-columns")
        yield Static(id="columns-example")

    def point(self, draft: Draft, reading: Reading, note: Content, width: int) -> None:
        """Show a reading in `width` columns; `note` says what is wrong with it or how far a newer one is."""
        self._draft, self._reading = draft, reading
        self.query_one("#columns-note", Static).update(note)
        self.query_one("#columns-note").display = bool(note.plain)
        self._list()
        self.query_one("#columns-example", Static).update(_example_content(reading, max(30, width - 2)))

    def leave_role(self) -> bool:
        """Close the choice of a column; return whether one was open."""
        if not self._role:
            return False
        self._role = ""
        self._list()
        return True

    def _list(self) -> None:
        rows = column_rows(self._role, self._reading) if self._role else role_rows(self._draft, self._reading)
        listed = self.query_one(OptionList)
        kept = listed.highlighted or 0
        listed.set_options([Option(content, id=row_id) for row_id, content in rows])
        listed.highlighted = min(kept, len(rows) - 1)

    @on(OptionList.OptionHighlighted, "#data-columns")
    def _explain(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        role = self._role or (event.option_id or "")
        text = ROLE_HELP.get(role, "Which column plays this role.")
        self.post_message(Explained(Explanation(role.capitalize(), text)))

    @on(OptionList.OptionSelected, "#data-columns")
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        option_id = event.option_id or ""
        if not self._role:
            self._role = option_id
            self._list()
            return
        role, self._role = self._role, ""
        self._rebind(role, option_id)

    def _rebind(self, role: str, column: str) -> None:
        if role == "shape":
            detected = column == NOTHING
            changes: dict[str, Any] = {} if detected else {"data.format": column}
            cleared = ("data.mapping", "data.format") if detected else ("data.mapping",)
            self.post_message(Answered(changes, cleared))
            return
        self.post_message(Answered({"data.mapping": rebound_mapping(self._reading.mapping, role, column)}))


def _example_content(reading: Reading, width: int) -> Content:
    if not reading.example:
        return Content("")
    parts: list[tuple[str, str]] = [("the first row as it is read", "$text-muted")]
    for role, text in reading.example.items():
        parts.append((f"\n{clean_line(role, max_chars=11):<12}", "$accent"))
        parts.append((clean_line(text, max_chars=max(16, width - 12)), ""))
    return Content.assemble(*parts)
