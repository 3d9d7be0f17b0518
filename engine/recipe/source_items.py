"""What is wrong with an item of `data.source`, said about that item: a list of several shapes is hard to tell."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from engine.recipe.problems import Problem
from engine.recipe.schema_data import WeightedSource
from engine.text import clean_line

_KEYS = tuple(WeightedSource.model_fields)


def bad_item(items: list[Any]) -> Problem | None:
    """Return what is wrong with the first bad item of a list of sources; None when all are well.

    Args:
        items: The value of `data.source` as a recipe file has it.
    """
    for number, item in enumerate(items, 1):
        cause = _cause(item)
        if cause:
            message, fix = cause
            return Problem("recipe.value", f"item {number} of data.source {message}.", fix, "data.source")
    return None


def _cause(item: Any) -> tuple[str, str] | None:
    if isinstance(item, str):
        return None
    if not isinstance(item, Mapping):
        return "is neither a text nor a section", "Name a file, or write {path: FILE, weight: 2}."
    unknown = next((str(key) for key in item if key not in _KEYS), None)
    if unknown is not None:
        near = get_close_matches(unknown, _KEYS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Its keys are {' and '.join(_KEYS)}."
        return f"has the unknown key {clean_line(unknown, max_chars=60)}", hint
    if not isinstance(item.get("path"), str):
        return "names no file", "Write {path: FILE, weight: 2}."
    weight = item.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 100:
        return "has a weight that is no number above 0 and at most 100", "Write a number such as 2 or 0.5."
    return None
