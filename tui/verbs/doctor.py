"""`ftwizard doctor`: what this machine has, what is wrong with it and how to mend it."""

import typer

from engine.text import clean, clean_line
from tui.verbs.output import EXIT_FAILED, print_json

_GLYPHS = {"ok": ("+", typer.colors.GREEN), "warning": ("!", typer.colors.YELLOW), "error": ("x", typer.colors.RED)}


def doctor(*, as_json: bool) -> int:
    """Print every check; exit code 1 when one of them is an error."""
    from engine.hardware.doctor import examine
    from engine.hardware.probe import read_hardware
    from engine.runs.home import home_folders

    checks = examine(read_hardware(), home_folders())
    failed = any(check.status == "error" for check in checks)
    if as_json:
        rows = [{"name": c.name, "status": c.status, "value": c.value, "fix": c.fix} for c in checks]
        print_json({"checks": rows, "ok": not failed})
        return EXIT_FAILED if failed else 0
    width = max(len(check.name) for check in checks)
    for check in checks:
        glyph, colour = _GLYPHS[check.status]
        mark = typer.style(f"{glyph} {check.status:<7}", fg=colour)
        typer.echo(f"{mark}  {check.name:<{width}}  {clean_line(check.value)}")
        if check.fix:
            typer.echo(f"{'':<{width + 13}}{clean(check.fix)}")
    return EXIT_FAILED if failed else 0
