"""Which values of a recipe name files and folders, and what they mean where the person stood who wrote them.

A run outlives the folder that it was started from, and its worker stands in another one: no recipe of a run may hold a
relative path.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from engine.paths import typed_path
from engine.recipe.sources import flatten, unflatten

PlaceKind = Literal["there", "template", "function", "new"]
"""`there`: may exist, and is another thing where it does not, such as a hub id; `template`: a file, or a name of ours;
`function`: a Python file, with or without the name of a function; `new`: does not exist yet."""
PLACES: dict[str, PlaceKind] = {
    "model.base": "there",
    "model.chat_template": "template",
    "data.source": "there",
    "data.held_out": "there",
    "preference.judge": "there",
    "reinforcement.reward_model": "there",
    "reinforcement.reward_file": "function",
    "evaluation.json_schema": "there",
    "evaluation.metric_file": "function",
    "delivery.output": "new",
}
"""Recipe paths that name a place."""
_NO_PATHS = ("builtin:", "hub:")
_RUN = "run:"


def absolute_places(tree: Mapping[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    """Return a recipe with its relative paths made absolute against the first folder that has them.

    Args:
        tree: Nested recipe dictionary, checked or not.
        folders: Where the person stands, then where the recipe lies.
    """
    flat = flatten(tree)
    changed = {path: _placed(flat[path], kind, folders) for path, kind in PLACES.items() if path in flat}
    return unflatten({**flat, **changed})


def function_of(reference: str) -> tuple[str, str]:
    """Return file and name of the function that `FILE.py` or `FILE.py:NAME` names; no name where none is said."""
    file, colon, name = reference.rpartition(":")
    return (file, name) if colon and name.isidentifier() else (reference, "")


def _placed(value: Any, kind: PlaceKind, folders: Sequence[Path]) -> Any:
    match value:
        case "chatml" if kind == "template":
            return value
        case str() if kind == "new":
            return str((folders[0] / typed_path(value)).absolute())
        case str() if kind == "function":
            file, name = function_of(value)
            return ":".join([_absolute(file, folders), *([name] if name else [])])
        case str():
            return _absolute(value, folders)
        case list():
            return [_placed(item, kind, folders) for item in value]
        case {"path": str() as path, **rest}:
            return {"path": _absolute(path, folders), **rest}
    return value


def _absolute(reference: str, folders: Sequence[Path]) -> str:
    if reference.startswith(_NO_PATHS):
        return reference
    if reference.startswith(_RUN):
        run = reference.removeprefix(_RUN)
        return f"{_RUN}{_absolute(run, folders)}" if os.sep in run else reference
    for folder in folders:
        candidate = folder / typed_path(reference)
        if os.path.exists(candidate):
            return str(candidate.resolve())
        # A pattern names files that may come and go; its folder is what must not depend on where one stands.
        if glob.has_magic(reference) and next(glob.iglob(str(candidate), recursive=True), None):
            return str(candidate.absolute())
    return reference
