"""Patterns that people write for answers: read with a plain error, searched with a limit of time."""

from typing import Any

import regex

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

PATTERN_LIMIT_S = 0.5
"""Time for one answer; the `regex` package gives up then, where a plain one could search for years."""
_CODES = {"reinforcement.pattern": "reward", "evaluation.pattern": "evaluation"}


def compile_pattern(pattern: str, path: str = "reinforcement.pattern") -> Any:
    """Return a compiled pattern in which a dot matches line feeds too, since answers have lines.

    Raises:
        ProblemError: It cannot be read.
    """
    try:
        return regex.compile(pattern, regex.DOTALL)
    except regex.error as error:
        message = f"{path} cannot be read: {clean_line(error, max_chars=120)}."
        fix = "Correct it; a plain bracket, dot or star is written with a backslash in front."
        raise ProblemError(Problem(f"{_CODES[path]}.pattern", message, fix, path)) from error
