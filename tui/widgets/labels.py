"""Pieces of text that several screens show: states, ages, findings. Every one is `Content`, never markup."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from textual.content import Content

from engine.recipe.problems import Problem
from engine.text import clean_line
from tui.summary import check_counts

STATE_MARKS: dict[str, tuple[str, str]] = {
    "created": ("○", "$text-muted"),
    "preparing": ("◌", "$primary"),
    "training": ("▶", "$primary"),
    "paused": ("‖", "$warning"),
    "evaluating": ("◆", "$primary"),
    "exporting": ("◆", "$primary"),
    "finished": ("✓", "$success"),
    "stopped": ("■", "$warning"),
    "failed": ("✗", "$error"),
    "crashed": ("✗", "$error"),
}
SEVERITY_MARKS: dict[str, tuple[str, str]] = {
    "error": ("✗", "$error"),
    "warning": ("!", "$warning"),
    "note": ("i", "$primary"),
}


def safe(text: object, style: str = "", *, max_chars: int | None = None) -> Content:
    """Return text that somebody else wrote as one line of `Content`."""
    return Content.styled(clean_line(text, max_chars=max_chars), style)


def muted(text: object) -> Content:
    """Return text of minor weight."""
    return safe(text, "$text-muted")


def state_label(state: str, *, width: int = 0) -> Content:
    """Return glyph and word of a run's state, the word padded to `width`."""
    glyph, style = STATE_MARKS.get(state, ("?", "$text-muted"))
    return Content.styled(f"{glyph} {clean_line(state):<{width}}", style)


def problem_label(problem: Problem) -> Content:
    """Return mark, message and fix of a finding."""
    glyph, style = SEVERITY_MARKS[problem.severity]
    parts: list[Content | tuple[str, str]] = [(f"{glyph} ", f"bold {style}"), (clean_line(problem.message), style)]
    if problem.fix:
        parts.append((" " + clean_line(problem.fix), "$text-muted"))
    return Content.assemble(*parts)


def age(seconds: float) -> str:
    """Return how long ago something happened, such as `5 min ago`."""
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    days = int(seconds // 86400)
    return "yesterday" if days == 1 else f"{days} days ago"


def fit(text: str, width: int) -> str:
    """Return `text` cut or padded to `width` characters."""
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)


def tail(text: object, width: int) -> str:
    """Return the end of a path or a name on one line: of a long path the end says which it is."""
    whole = clean_line(text)
    return whole if len(whole) <= width else "…" + whole[len(whole) - width + 1 :]


def hanging(text: str, indent: int, width: int) -> str:
    """Return one paragraph wrapped to `width` with every line indented by `indent`."""
    prefix = " " * indent
    lines = textwrap.wrap(
        clean_line(text),
        max(indent + 20, width),
        initial_indent=prefix,
        subsequent_indent=prefix,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


def check_lines(checks: Sequence[Mapping[str, Any]]) -> list[Content]:
    """Return how the checks before the first step went, and each one that found something; nothing without checks.

    Args:
        checks: As `preflight.checked` events and reports have them.
    """
    if not checks:
        return []
    found = [check for check in checks if check.get("status") in ("warning", "blocked")]
    told = check_counts(Counter(str(check.get("status")) for check in checks))
    mark = ("! ", "$warning") if found else ("✓ ", "$success")
    lines = [Content.assemble(mark, (f"checks before the first step: {told}", ""))]
    for check in found:
        glyph, style = SEVERITY_MARKS["error" if check.get("status") == "blocked" else "warning"]
        words = f"{check.get('title')}: {check.get('message')} {check.get('fix') or ''}"
        lines.append(Content.assemble((f"{glyph} ", style), (clean_line(words, max_chars=600), "")))
    return lines
