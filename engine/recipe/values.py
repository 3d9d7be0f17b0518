"""Values as people write them: from text to the value that a field takes, without guessing."""

import json
from collections.abc import Mapping
from typing import Any

from engine.recipe.fields import RecipeField, fields_by_path, section_titles
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.strict_yaml import WrittenFloat, WrittenInt, parse_document, resolve_scalar
from engine.recipe.suggest import joined, suggest_path
from engine.text import clean_line

_QUOTES = ('"', "'")
_NULLS = ("", "null", "~")


def find_field(path: str) -> RecipeField:
    """Return the field at a path; `data.mapping.prompt` finds `data.mapping`.

    Raises:
        ProblemError: No field has this path; the nearest one is named.
    """
    fields = fields_by_path()
    found = fields.get(path)
    if found is not None:
        return found
    for parent in fields.values():
        # Keys may hold dots themselves, such as mlp.up_proj.
        if parent.kind == "mapping" and path.startswith(f"{parent.path}."):
            return parent
    shown = clean_line(path, max_chars=80)
    if path in section_titles():
        keys = ", ".join(field.path for field in fields.values() if field.section == path)
        raise ProblemError(
            Problem("recipe.path_is_section", f"{shown} is a section, not a setting.", f"Set one of {keys}.", path)
        )
    raise ProblemError(Problem("recipe.key_unknown", f"A recipe has no setting {shown}.", suggest_path(path), shown))


def parse_value(path: str, text: str) -> Any:
    """Return the value that a text means for the field at `path`, by the rules of recipe files.

    Fields that want text take it as it stands, so that `name=1.10` stays `1.10`; nothing or `null` empties an optional
    field. Lists are written `[a, b]`, and those of words also `a,b`.

    Args:
        path: Dotted path of a field.
        text: What somebody typed.

    Raises:
        ProblemError: Unknown path, or text that does not parse. Ranges are checked by `check.check_values`.
    """
    field = find_field(path)
    if path != field.path:
        return text if field.items == "text" else resolve_scalar(text.strip())
    return coerce(field, _parse(field, text.strip(), text))


def _parse(field: RecipeField, stripped: str, text: str) -> Any:
    if stripped in _NULLS and field.optional:
        return None
    if stripped.startswith(_QUOTES) or (stripped.startswith("[") and _takes_list(field)):
        return parse_document(stripped, name=field.path).value
    match field.accepts:
        case ("text",) | ("text", "list"):
            return text
        case ("text", "float"):
            return resolve_scalar(stripped)
        case ("list",):
            return [text]
        case ("choices",):
            return [word.strip() for word in stripped.split(",")]
        case ("choice", "list"):
            return stripped if stripped in field.choices else [word.strip() for word in stripped.split(",")]
        case ("choice",):
            return stripped
        case ("mapping",) if not stripped.startswith("{"):
            # On one line several keys need braces, and a person should not.
            return parse_document(f"{{{stripped}}}", name=field.path).value
    return parse_document(stripped, name=field.path).value


def _takes_list(field: RecipeField) -> bool:
    return "list" in field.accepts or "choices" in field.accepts


def plain_tree(tree: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Return the recipe dictionary with values in the shape of their fields, and without empty sections.

    A number where text is wanted becomes the text as it was written; a whole `1e3` becomes an int where one is wanted.
    Everything else stays for the check to complain about.

    Args:
        tree: Nested dictionary.
        section: Path of the section that it is; "" for a whole recipe.
    """
    plain: dict[str, Any] = {}
    for key, value in tree.items():
        path = joined(section, key)
        if path not in section_titles():
            plain[key] = _coerced(path, value)
        elif isinstance(value, Mapping):
            plain[key] = plain_tree(value, path)
        elif value is not None:
            plain[key] = _unwrapped(value)
    return plain


def _coerced(path: str, value: Any) -> Any:
    field = fields_by_path().get(path)
    return _unwrapped(value) if field is None else coerce(field, value)


def coerce(field: RecipeField, value: Any) -> Any:
    """Return the value in the shape of its field where nothing is lost by it, else as it is."""
    accepts = field.accepts
    if isinstance(value, list):
        return [_as_text(item) for item in value] if _takes_list(field) else [_unwrapped(item) for item in value]
    if isinstance(value, Mapping):
        if field.kind == "mapping" and field.items == "text":
            return {str(key): _as_text(item) for key, item in value.items()}
        return {str(key): _unwrapped(item) for key, item in value.items()}
    if isinstance(value, float) and value.is_integer() and "int" in accepts:
        return int(value)
    return _as_text(value) if "text" in accepts and "float" not in accepts else _unwrapped(value)


def _as_text(value: Any) -> Any:
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    # A plain float has lost how it was written (1.10 is 1.1 by now), so it is left for the check to refuse.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _unwrapped(value)


def _unwrapped(value: Any) -> Any:
    if isinstance(value, WrittenInt):
        return int(value)
    if isinstance(value, WrittenFloat):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _unwrapped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_unwrapped(item) for item in value]
    return value


def change_argument(path: str, value: Any) -> str:
    """Return `path=value` as `--set` reads it back."""
    plain = isinstance(value, str) and value and value == value.strip()
    if plain and value[0] not in "[{\"'" and value not in ("null", "~"):
        return f"{path}={value}"
    return f"{path}={json.dumps(value, ensure_ascii=False)}"


def change_words(changes: Mapping[str, Any]) -> list[str]:
    """Return the `--set` words of changes; a mapping becomes one change for each of its keys."""
    words: list[str] = []
    for path, value in changes.items():
        parts = value if isinstance(value, dict) else {}
        pairs = {f"{path}.{key}": item for key, item in parts.items()} or {path: value}
        for name, item in pairs.items():
            words += ["--set", change_argument(name, item)]
    return words
