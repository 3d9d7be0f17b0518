"""Where each resolved value of a recipe comes from, and layers of a recipe laid over each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SourceKind = Literal["default", "preset", "derived", "you"]


@dataclass(frozen=True, slots=True)
class Source:
    """Origin of one value: `default`, `preset NAME`, `derived: REASON` or `you`."""

    kind: SourceKind
    detail: str = ""

    def __str__(self) -> str:
        if self.kind == "preset":
            return f"preset {self.detail}"
        if self.kind == "derived":
            return f"derived: {self.detail}"
        return self.kind


# Dictionaries that are values of one field, not sections; a layer replaces them whole.
LEAF_DICTIONARIES = frozenset({"data.mapping", "method.rank_pattern", "reinforcement.weights"})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted path: value}` of a nested recipe dictionary.

    Args:
        tree: Nested dictionary, as read from YAML.
        prefix: Path put in front of every key.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and path not in LEAF_DICTIONARIES:
            flat.update(flatten(value, path))
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested dictionary of `{dotted path: value}`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        node = tree
        *parents, leaf = path.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


@dataclass(frozen=True, slots=True)
class Layered:
    """A recipe dictionary with the source of each value that somebody set.

    Attributes:
        tree: Nested dictionary, ready for `read.check_recipe`.
        sources: `{dotted path: Source}` of the values set by a preset or by the person; all others are defaults.
    """

    tree: dict[str, Any]
    sources: dict[str, Source]


def lay(you: Mapping[str, Any], *, preset: Mapping[str, Any] | None = None, preset_name: str = "") -> Layered:
    """Lay what the person typed over a preset; the person always wins.

    Args:
        you: Nested dictionary of values set by the person.
        preset: Nested dictionary of a preset's values.
        preset_name: Name shown as the source of the preset's values.
    """
    flat = dict(flatten(preset or {}))
    sources = {path: Source("preset", preset_name) for path in flat}
    for path, value in flatten(you).items():
        flat[path] = value
        sources[path] = Source("you")
    return Layered(unflatten(flat), sources)
