"""Which run started from which: read off what the runs say of their base models. Light, and no file is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from engine.runs.directory import RunDirectory
from engine.runs.references import PREFIX, is_run_reference


def parent_name(base: str) -> str:
    """Return the name of the run whose model a base model is; empty for other models.

    Args:
        base: As a recipe (`run:ID`) or a plan (the folder of that run's model) says it.
    """
    path = PurePath(base.removeprefix(PREFIX))
    if is_run_reference(base):
        return path.name
    left = len(path.parts) > 2 and RunDirectory(Path(*path.parts[:-2])).merged_folder == Path(path)
    return path.parent.parent.name if left else ""


def family_order(names: Sequence[str], parents: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return runs with how deep they stand, each under the run that it started from.

    Args:
        names: Runs; those without a parent among them keep this order.
        parents: `{run: the run it started from}`; parents that are not in `names` count as none.
    """
    there = set(names)
    children: dict[str, list[str]] = {}
    for name in names:
        parent = parents.get(name, "")
        children.setdefault(parent if parent in there and parent != name else "", []).append(name)
    placed: dict[str, int] = {}
    # Damaged runs may name each other: those that no root leads to come last, and none is left out.
    for root in (*children.get("", ()), *names):
        waiting = [(root, 0)]
        while waiting:
            name, depth = waiting.pop()
            if name not in placed:
                placed[name] = depth
                waiting += [(child, depth + 1) for child in reversed(children.get(name, ()))]
    return list(placed.items())
