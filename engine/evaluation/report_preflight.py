"""The part of a report that tells what was checked before the first step."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from engine.evaluation.markup import escape_html, escape_markdown
from engine.text import clean_line

TITLE = "Checked before the first step"
_ORDER = ("blocked", "warning", "passed", "skipped")
_WORDS = {"blocked": "blocked", "warning": "warning", "passed": "passed", "skipped": "not checked"}
_CLASSES = {"blocked": "worse", "warning": "mixed", "passed": "better", "skipped": "unknown"}


def preflight_words(checks: Sequence[dict[str, Any]]) -> str:
    """Return how the checks went in a few words, such as `8 passed, 1 warning`."""
    counts = Counter(_status(check) for check in checks)
    return ", ".join(f"{counts[status]} {_WORDS[status]}" for status in _ORDER if counts[status])


def preflight_markdown(checks: Sequence[dict[str, Any]]) -> str:
    """Return the section as Markdown; empty when nothing was checked."""
    if not checks:
        return ""
    rows = [f"| {escape_markdown(_name(c))} | {_WORDS[_status(c)]} | {escape_markdown(_found(c))} |" for c in checks]
    return "\n".join([f"## {TITLE}", "", "| check | result | what was found |", "|---|---|---|", *rows])


def preflight_section(checks: Sequence[dict[str, Any]]) -> str:
    """Return the section as HTML; empty when nothing was checked."""
    if not checks:
        return ""
    rows = "\n".join(
        f'<tr><td>{escape_html(_name(check))}</td><td><span class="verdict {_CLASSES[_status(check)]}">'
        f'{_WORDS[_status(check)]}</span></td><td class="soft">{escape_html(_found(check))}</td></tr>'
        for check in checks
    )
    head = "<tr><th>Check</th><th>Result</th><th>What was found</th></tr>"
    return (
        f"<h2>{TITLE}</h2>\n<details><summary>{escape_html(preflight_words(checks))}</summary>\n"
        f'<div class="card table"><table class="dense"><thead>{head}</thead>'
        f"<tbody>\n{rows}\n</tbody></table></div></details>"
    )


def _status(check: dict[str, Any]) -> str:
    status = str(check.get("status"))
    return status if status in _WORDS else "skipped"


def _name(check: dict[str, Any]) -> str:
    return clean_line(f"{check.get('id')} {check.get('title')}")


def _found(check: dict[str, Any]) -> str:
    told = [check.get("message"), check.get("fix")]
    return clean_line(" ".join(str(part) for part in told if part), max_chars=1400)
