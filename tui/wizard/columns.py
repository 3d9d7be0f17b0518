"""Which column plays which role: rows for the list, and the mapping after a change."""

from textual.content import Content

from engine.planning.profiles import DataProfile
from engine.text import clean_line
from tui.wizard.draft import Draft

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


def role_rows(draft: Draft, profile: DataProfile) -> list[tuple[str, Content]]:
    """Return `(row id, content)` for the shape and for each role of it."""
    chosen = draft.value("data.format")
    shape = profile.format or ""
    rows = [("shape", _row("shape", shape, by_you=bool(chosen)))]
    mapped = draft.value("data.mapping") or {}
    for role in ROLES.get(shape, ()):
        rows.append((role, _row(role, profile.mapping.get(role, ""), by_you=role in mapped)))
    for role in profile.mapping:
        if role not in ROLES.get(shape, ()):
            rows.append((role, _row(role, profile.mapping[role], by_you=role in mapped)))
    return rows


def _row(role: str, column: str, *, by_you: bool) -> Content:
    shown = clean_line(column, max_chars=28) if column else "none"
    return Content.assemble(
        (f"  {clean_line(role):<14}", "$text-muted"),
        (f"← {shown:<30}", "bold" if column else "$text-muted"),
        ("  you" if by_you else "  detected" if column else "", "$accent" if by_you else "$text-muted"),
    )


def column_rows(role: str, profile: DataProfile) -> list[tuple[str, Content]]:
    """Return `(row id, content)` of what a role can be bound to."""
    if role == "shape":
        rows = [(NOTHING, Content("  Detect it from the columns"))]
        return rows + [(name, Content(f"  {name:<20}{text}")) for name, text in SHAPES.items()]
    rows = [(NOTHING, Content(f"  No column for {clean_line(role)}"))]
    return rows + [(column, Content(f"  {clean_line(column, max_chars=60)}")) for column in profile.columns]


def rebound_mapping(profile: DataProfile, role: str, column: str) -> dict[str, str]:
    """Return the mapping in use with one role bound to another column."""
    mapping = {name: bound for name, bound in profile.mapping.items() if name != role}
    if column != NOTHING:
        mapping[role] = column
    return mapping
