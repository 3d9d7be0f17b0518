"""Settings that the fix of a problem names, so that one key can take them instead of a person typing them."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.recipe.spelt_settings import spelt_settings
from tui.backend import Backend

_SINGLE = ("text", "choice", "bool", "int", "float")


def offered_settings(problems: Sequence[Problem], backend: Backend) -> list[Mapping[str, Any]]:
    """Return `{path: value}` for each setting that a fix names and that the recipe takes, without repeats."""
    kinds = {field.path: field.kind for field in backend.fields()}
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for problem in problems:
        for path, text in spelt_settings(problem.fix):
            if kinds.get(path) not in _SINGLE:
                continue
            try:
                value = backend.parse(path, text)
            except ProblemError:
                continue  # A placeholder such as COLUMN, or a value for another field: nothing to offer.
            found.setdefault((path, text), {path: value})
    return list(found.values())
