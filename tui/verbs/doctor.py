"""`ftwizard doctor`: what this machine has, what is wrong with it and how to mend it."""

import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from engine.text import clean_line
from tui.verbs.output import EXIT_FAILED, print_json

if TYPE_CHECKING:
    from engine.hardware.checks import Check
    from engine.hardware.devices import Hardware

_GLYPHS = {"ok": ("+", typer.colors.GREEN), "warning": ("!", typer.colors.YELLOW), "error": ("x", typer.colors.RED)}
_LEAST_COLUMNS, _MOST_COLUMNS = 60, 100


def doctor(*, as_json: bool) -> int:
    """Print every check; exit code 1 when one of them is an error."""
    hardware, checks = _examine()
    failed = any(check.status == "error" for check in checks)
    if as_json:
        from engine.hardware.devices import hardware_json

        rows = [check.to_json() for check in checks]
        print_json({"checks": rows, "ok": not failed, "hardware": hardware_json(hardware)})
    else:
        columns = min(_MOST_COLUMNS, max(_LEAST_COLUMNS, shutil.get_terminal_size().columns))
        for line in report_lines(checks, columns):
            typer.echo(line)
    return EXIT_FAILED if failed else 0


def _examine() -> "tuple[Hardware, list[Check]]":
    from engine.hardware.doctor import examine, wants_torch
    from engine.hardware.probe import read_hardware
    from engine.hardware.torch_process import ask_torch
    from engine.planning.model_profile import hub_cache
    from engine.runs.home import home_folders

    home = home_folders()
    hardware = read_hardware((home.runs, home.cache, hub_cache()), patient=True)
    return hardware, examine(hardware, home, torch=ask_torch() if wants_torch(hardware) else None)


def report_lines(checks: "Sequence[Check]", columns: int) -> list[str]:
    """Return the report as lines of at most so many columns, colours not counted.

    Args:
        checks: What was looked at; those of a group follow each other.
        columns: Width of the terminal.
    """
    width = max((len(clean_line(check.name)) for check in checks), default=0)
    lines: list[str] = []
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += ["", typer.style(group, bold=True)] if lines else [typer.style(group, bold=True)]
        lines += _check_lines(check, width, columns)
    return [*lines, "", *_summary(checks, columns)]


def _check_lines(check: "Check", width: int, columns: int) -> list[str]:
    glyph, colour = _GLYPHS[check.status]
    margin = " " * (width + 6)
    room = columns - len(margin)
    first, *rest = _wrapped(check.value, room)
    lines = [f"  {typer.style(glyph, fg=colour)} {clean_line(check.name):<{width}}  {first}"]
    lines += [f"{margin}{line}" for line in rest]
    lines += [f"{margin}{typer.style(line, dim=True)}" for detail in check.details for line in _wrapped(detail, room)]
    if check.fix:
        hint, *more = _wrapped(f"Fix: {check.fix}" if check.status != "ok" else check.fix, room)
        lines += [f"{margin}{typer.style(line, fg=colour)}" for line in (hint, *more)]
    return lines


def _wrapped(text: str, room: int) -> list[str]:
    cleaned = clean_line(text)
    # A table keeps its columns; what is longer than the terminal is a sentence.
    if len(cleaned) <= room:
        return [cleaned]
    return textwrap.wrap(cleaned, room, subsequent_indent="  ", break_on_hyphens=False) or [""]


def _summary(checks: "Sequence[Check]", columns: int) -> list[str]:
    errors = [clean_line(check.name) for check in checks if check.status == "error"]
    warnings = [clean_line(check.name) for check in checks if check.status == "warning"]
    if not errors and not warnings:
        return ["Nothing is wrong."]
    parts = [
        f"{len(found)} {word}: {', '.join(found)}"
        for word, found in (("wrong", errors), ("to look at", warnings))
        if found
    ]
    return [line for part in parts for line in textwrap.wrap(part, columns, subsequent_indent="  ")]
