"""What every verb prints: problems, JSON and tables, cleaned of anything that could act on a terminal."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import typer

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean, clean_line

EXIT_FAILED = 1
EXIT_WRONG_USE = 2
EXIT_RESUMABLE = 75
EXIT_LEFT = 130

_GLYPHS = {"error": "x", "warning": "!", "note": "i"}
_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.CYAN}


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=True, allow_nan=False))


def print_problems(problems: Iterable[Any], *, err: bool = True) -> None:
    """Print findings, one or two lines each: what is wrong, and what to do."""
    for problem in problems:
        where = f"{problem.path}: " if problem.path else ""
        mark = typer.style(f"{_GLYPHS[problem.severity]} {problem.severity}", fg=_COLOURS[problem.severity])
        typer.echo(f"{mark}  {clean(where + problem.message)}", err=err)
        if problem.fix:
            typer.echo(f"         {clean(problem.fix)}", err=err)


def run_verb(action: Callable[[], int], *, as_json: bool = False) -> None:
    """Run a verb and leave the process with its exit code.

    Problems are printed as sentences, or as `{"problems": [...]}` for scripts; so is what the system refuses, such as a
    folder that cannot be written. Anything else is a fault of ours and shows its trace.
    """
    try:
        code = action()
    except ProblemError as error:
        code = EXIT_WRONG_USE
        _say_problems(error.problems, as_json=as_json)
    except KeyboardInterrupt:
        typer.echo("", err=True)
        code = EXIT_LEFT
    except BrokenPipeError:
        # The reader of our output went away (`ftwizard runs | head`); nothing is left to say.
        sys.stderr.close()
        code = 0
    except OSError as error:
        code = EXIT_FAILED
        _say_problems([_refused(error)], as_json=as_json)
    raise typer.Exit(code)


def _say_problems(problems: Sequence[Problem], *, as_json: bool) -> None:
    if as_json:
        print_json({"problems": [problem.to_json() for problem in problems]})
    else:
        print_problems(problems)


def _refused(error: OSError) -> Problem:
    what = f"{error.filename}: " if error.filename is not None else ""
    fix = "Check that it can be written and that the disk has room; FTWIZARD_HOME chooses another folder for runs."
    return Problem("system.refused", f"{what}{error.strerror or error}.", fix)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> None:
    """Print columns that line up, the header dimmed; cells are cleaned and kept on one line.

    Args:
        headers: One title per column.
        rows: Cells, as many as there are headers.
        right: Columns that are aligned to the right.
    """
    cells = [[clean_line(cell) for cell in row] for row in rows]
    widths = [max(len(header), *(len(row[i]) for row in cells), 0) for i, header in enumerate(headers)]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    typer.echo(typer.style(line(headers), dim=True))
    for row in cells:
        typer.echo(line(row))
