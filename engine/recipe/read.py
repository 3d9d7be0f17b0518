"""Recipes in and out: strict YAML, findings with file and line, `--set`, YAML that reads back the same, hash."""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.recipe.check import Lines, check_recipe, check_values
from engine.recipe.fields import section_titles
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.sources import unflatten
from engine.recipe.strict_yaml import Document, dump_document, parse_document
from engine.recipe.suggest import joined, keys_by_section
from engine.recipe.text_file import read_text
from engine.recipe.values import find_field, parse_value, plain_tree
from engine.text import clean_line

__all__ = [
    "RecipeFile",
    "check_recipe",
    "check_values",
    "dump_recipe",
    "load_yaml",
    "parse_value",
    "read_recipe",
    "read_recipe_file",
    "recipe_hash",
    "set_value",
]

PRESET_HEADER = "preset"
"""Key of a preset file that tells what the preset is for; it is no part of the recipe."""


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """A recipe file as it was read.

    Attributes:
        tree: What the file sets, in the shape of the fields.
        lines: `{dotted path: (line, column)}` of each key.
        name: The file, as findings name it.
    """

    tree: dict[str, Any]
    lines: Lines
    name: str


def load_yaml(text: str, *, name: str) -> dict[str, Any]:
    """Return the section that a YAML text says; an empty text says nothing.

    Args:
        text: One YAML document.
        name: File name for findings.

    Raises:
        ProblemError: Not strict YAML, or no section; with `NAME:LINE:COLUMN`.
    """
    return _section(parse_document(text, name=name), name)


def _section(document: Document, name: str) -> dict[str, Any]:
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        raise ProblemError(
            Problem(
                "yaml.not_a_section",
                f"{clean_line(name)}:1:1: the file holds no keys.",
                "Write key: value lines, such as objective: chat.",
            )
        )
    return document.value


def read_recipe(path: Path) -> dict[str, Any]:
    """Return what a recipe file sets, as a nested dictionary.

    Raises:
        ProblemError: The file cannot be read, or a key or value is wrong; with `FILE:LINE:COLUMN`.
    """
    return read_recipe_file(path).tree


def read_recipe_file(path: Path) -> RecipeFile:
    """Return what a recipe file sets, with the line of each key.

    Missing values are no error here, since a preset may bring them; `check_recipe` asks for them.

    Raises:
        ProblemError: The file cannot be read, or a key or value is wrong; with `FILE:LINE:COLUMN`.
    """
    name = str(path)
    document = parse_document(read_text(path, what="recipe"), name=name)
    tree = dict(_section(document, name))
    tree.pop(PRESET_HEADER, None)
    problems = check_values(tree, name=name, lines=document.positions)
    if problems:
        raise ProblemError(*problems)
    return RecipeFile(plain_tree(tree), document.positions, name)


def set_value(tree: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """Return a copy of a recipe dictionary with one value set, as `--set PATH=VALUE` asks.

    Args:
        tree: Nested dictionary; it is not changed.
        assignment: Such as `training.epochs=2` or `data.mapping.prompt=question`.

    Raises:
        ProblemError: No `=`, unknown path, or a value that the field does not take.
    """
    path, equals, text = assignment.partition("=")
    path = path.strip()
    if not equals or not path:
        raise ProblemError(
            Problem(
                "recipe.assignment",
                f"--set {clean_line(assignment, max_chars=80)} is no PATH=VALUE.",
                "Write, for instance, --set training.epochs=2.",
            )
        )
    value = parse_value(path, text)
    field = find_field(path)
    key = path.removeprefix(field.path).removeprefix(".")
    problems = check_values(unflatten({field.path: {key: value} if key else value}), name="--set")
    if problems:
        raise ProblemError(*problems)
    return _with_value(tree, field.path, value, key)


def _with_value(tree: Mapping[str, Any], path: str, value: Any, key: str = "") -> dict[str, Any]:
    """Return a copy with one value set; with a key, that of a mapping, whose other keys stay."""
    changed = deepcopy(dict(tree))
    node = changed
    *parents, leaf = path.split(".")
    for parent in parents:
        if not isinstance(node.get(parent), dict):
            node[parent] = {}
        node = node[parent]
    node[leaf] = {**(node.get(leaf) or {}), key: value} if key else value
    return changed


def dump_recipe(tree: Mapping[str, Any]) -> str:
    """Return a recipe dictionary as YAML, known keys in the order of the schema; it reads back the same."""
    return dump_document(_ordered(plain_tree(tree)))


def _ordered(tree: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    order = keys_by_section()[section]
    known = sorted((key for key in tree if key in order), key=order.index)
    ordered: dict[str, Any] = {}
    for key in [*known, *(key for key in tree if key not in order)]:
        value, path = tree[key], joined(section, key)
        is_section = path in section_titles() and isinstance(value, Mapping)
        ordered[key] = _ordered(value, path) if is_section else value
    return ordered


def recipe_hash(recipe: Recipe) -> str:
    """Return the SHA-256 of a recipe's values as 64 hexadecimal digits; the same values give the same hash.

    Defaults are part of it: a recipe that spells a default out is the same recipe.
    """
    canonical = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
