"""Settings that the fix of a problem names, so that one key can take them instead of a person typing them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from tui.backend import Backend

# Fixes spell a setting as a recipe has it: `set data.encoding: windows-1252`, `data.cleaning.leaked_rows: drop`.
_SPELT = re.compile(r"\b(data\.[a-z_]+(?:\.[a-z_]+)*): ([^\s,;:()]+)")
_ENDS = ".,;:"
_SINGLE = ("text", "choice", "bool", "int", "float")


def offered_settings(problems: Sequence[Problem], backend: Backend) -> list[Mapping[str, Any]]:
    """Return `{path: value}` for each setting that a fix names and that the recipe takes, without repeats."""
    kinds = {field.path: field.kind for field in backend.fields()}
    found: dict[str, Mapping[str, Any]] = {}
    for problem in problems:
        for path, spelt in _SPELT.findall(problem.fix):
            text = spelt.rstrip(_ENDS)
            if kinds.get(path) not in _SINGLE:
                continue
            try:
                value = backend.parse(path, text)
            except ProblemError:
                continue  # A placeholder such as COLUMN, or a value for another field: nothing to offer.
            found.setdefault(f"{path}: {text}", {path: value})
    return list(found.values())
