"""A recipe dictionary against the schema: unknown keys, types and ranges as findings in plain words."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from engine.recipe.fields import RecipeField, fields_by_path, section_titles
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.source_items import bad_item
from engine.recipe.strict_yaml import Position, WrittenFloat, WrittenInt, resolve_scalar
from engine.recipe.suggest import joined, keys_by_section, nearest_word, suggest_key
from engine.recipe.values import plain_tree
from engine.text import clean_line

Lines = Mapping[str, Position]

ACCESS_TOKEN = re.compile(r"hf_[A-Za-z0-9]{30,}")
"""Tokens of the Hugging Face hub; they are never repeated in a message."""


def check_recipe(tree: Mapping[str, Any], *, name: str, lines: Lines | None = None) -> Recipe:
    """Return the recipe that a nested dictionary says.

    Args:
        tree: Nested dictionary, as `read_recipe` and `lay` return it.
        name: File or preset, put in front of each finding.
        lines: `{dotted path: (line, column)}` where known.

    Raises:
        ProblemError: All findings at once: unknown keys, wrong types, values out of range, missing values.
    """
    recipe, problems = _examine(tree, name, lines or {}, missing=True)
    if recipe is None:
        raise ProblemError(*problems)
    return recipe


def check_values(tree: Mapping[str, Any], *, name: str, lines: Lines | None = None) -> list[Problem]:
    """Return what is wrong with the values that are set; missing ones are no findings here."""
    return _examine(tree, name, lines or {}, missing=False)[1]


def _examine(tree: Mapping[str, Any], name: str, lines: Lines, *, missing: bool) -> tuple[Recipe | None, list[Problem]]:
    plain = plain_tree(tree)
    findings = list(_unknown_keys(plain))
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(_known(plain), strict=True)
    except ValidationError as error:
        findings += _value_findings(error, tree, missing=missing)
    findings.sort(key=lambda finding: _position(finding[1], lines) or (0, 0))
    problems = [_placed(problem, where, name, lines) for problem, where in findings]
    return (None if problems else recipe), problems


def _placed(problem: Problem, where: str, name: str, lines: Lines) -> Problem:
    place = ":".join(map(str, (clean_line(name), *(_position(where, lines) or ())))) if name else ""
    return replace(problem, message=f"{place}: {problem.message}") if place else problem


def _position(path: str, lines: Lines) -> Position | None:
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)


def _known(tree: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in tree.items():
        path = joined(section, key)
        if path in section_titles():
            if isinstance(value, Mapping):
                known[key] = _known(value, path)
        elif key in keys_by_section()[section]:
            known[key] = value
    return known


def _unknown_keys(tree: Mapping[str, Any], section: str = "") -> Iterator[tuple[Problem, str]]:
    for key, value in tree.items():
        path = joined(section, key)
        if key not in keys_by_section()[section]:
            yield _unknown_key(section, key), path
        elif path in section_titles() and not isinstance(value, Mapping):
            yield _not_a_section(path, value), path
        elif path in section_titles():
            yield from _unknown_keys(value, path)


def _unknown_key(section: str, key: str) -> Problem:
    shown = clean_line(key, max_chars=60)
    where = f"no key of {section}" if section else "no key of a recipe"
    path = f"{section}.{shown}" if section else shown
    return Problem("recipe.key_unknown", f"{shown} is {where}.", suggest_key(section, key), path)


def _not_a_section(key: str, value: Any) -> Problem:
    main = {"model": "base", "method": "name", "data": "source", "data.split": "method"}.get(key)
    name = key.rpartition(".")[2]
    hint = f"Write {name}: {{{main}: {clean_line(value, max_chars=60)}}}." if main and isinstance(value, str) else ""
    keys = ", ".join(keys_by_section()[key])
    message = f"{key} is {_shown(value)}; it must be a section with some of the keys {keys}."
    return Problem("recipe.section", message, hint or "Indent its keys below it.", key)


def _value_findings(error: ValidationError, tree: Mapping[str, Any], *, missing: bool) -> Iterator[tuple[Problem, str]]:
    reported: set[str] = set()
    fields = fields_by_path()
    for detail in error.errors(include_url=False, include_context=False):
        words = [str(part) for part in detail["loc"]]
        path = next((p for size in (3, 2, 1) if (p := ".".join(words[:size])) in fields), "")
        if detail["type"] == "missing":
            if missing:
                yield from ((problem, problem.path) for problem in _missing(".".join(words), tree))
        elif path and path not in reported:
            reported.add(path)
            item = next((part for part in detail["loc"][1:] if isinstance(part, int)), None)
            yield _bad_value(fields[path], _value_at(tree, path), item), path if item is None else f"{path}.{item}"


def _missing(path: str, tree: Mapping[str, Any]) -> list[Problem]:
    if path in section_titles() and tree.get(path) is not None:
        return []  # said already: it is there, and no section
    fields = [field for field in fields_by_path().values() if field.required and field.path.startswith(path)]
    return [
        Problem(
            "recipe.value_missing",
            f"{field.path} ({field.title.lower()}) is not set.",
            f"Set it in the recipe, or with --set {field.path}=VALUE. {field.description}",
            field.path,
        )
        for field in fields
        if field.path == path or field.section == path
    ]


def _value_at(tree: Mapping[str, Any], path: str) -> Any:
    value: Any = tree
    for key in path.split("."):
        value = value[key]
    return value


def _bad_value(field: RecipeField, value: Any, item: int | None) -> Problem:
    if field.path == "data.source" and isinstance(value, list) and (problem := bad_item(value)):
        return problem
    bad = value[item] if item is not None and isinstance(value, list) else value
    subject = f"item {item + 1} of {field.path}" if item is not None else field.path
    whole = "it" if item is None else "the field"
    message = f"{subject} is {_shown(bad)}; {whole} must be {field.expected()}."
    return Problem("recipe.value", message, _fix(field, bad), field.path)


def _fix(field: RecipeField, value: Any) -> str:
    if isinstance(value, str):
        if field.kind in ("int", "float", "bool") and not isinstance(resolve_scalar(value[:40]), str):
            return "Write it without quotes."
        near = nearest_word(value, field.choices)
        if near:
            return near
    if isinstance(value, bool | float) and "text" in field.accepts:
        return "Put it in quotes if it is text."
    if value is None:
        return "Set a value, or remove the key to get the default."
    return "Correct the value." if field.required else "Correct the value, or remove the key to get the default."


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, WrittenInt | WrittenFloat):
        return clean_line(value.text, max_chars=40)
    if isinstance(value, str) and ACCESS_TOKEN.search(value):
        return "an access token"
    if isinstance(value, str):
        return f'the text "{clean_line(value, max_chars=60)}"'
    if isinstance(value, list | tuple):
        return "a list"
    return "a section" if isinstance(value, Mapping) else clean_line(value, max_chars=40)
