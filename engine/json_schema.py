"""JSON Schema for written answers: the validation keywords of draft 2020-12, without anything that fetches.

The package has no schema library. References stay inside the file (`#/...`), `format` says nothing as in the standard,
and keywords that are not understood here (`unevaluatedProperties`, `$dynamicRef`, those of older drafts) are refused
when the schema is read, since a rule that is silently not looked at would make answers look right.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import regex

from engine.paths import typed_path
from engine.patterns import PATTERN_LIMIT_S
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

PATH = "evaluation.json_schema"
MAX_BYTES = 1_000_000
Schema = Mapping[str, Any] | bool
_REFUSED = frozenset(
    {
        "unevaluatedProperties",
        "unevaluatedItems",
        "$dynamicRef",
        "$dynamicAnchor",
        "$recursiveRef",
        "$anchor",
        "additionalItems",
        "dependencies",
        "extends",
        "disallow",
        "divisibleBy",
    }
)
_ONE = ("not", "if", "then", "else", "contains", "propertyNames", "additionalProperties", "items")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")


def parse(text: str) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: It is no JSON; `NaN` and `Infinity` are none.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_schema(reference: str) -> Schema:
    """Return the schema of a file.

    Raises:
        ProblemError: It cannot be read, is no schema, or uses what is not understood here.
    """
    path = typed_path(reference)
    shown = clean_line(path, max_chars=160)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _problem(f"{shown} is larger than 1 MB, which no schema is.", "Name the file with the schema.")
        schema = parse(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"The JSON Schema {shown} cannot be read ({error.strerror or 'no such file'})."
        raise _problem(message, "Check the path.") from error
    except ValueError as error:
        message = f"The JSON Schema {shown} is no JSON: {clean_line(error, max_chars=120)}."
        raise _problem(message, "Correct the file.") from error
    try:
        _check(schema, schema, "#", depth=0)
    except ValueError as error:
        message = f"The JSON Schema {shown} cannot be used: {clean_line(error, max_chars=200)}."
        raise _problem(message, "Correct the file; draft 2020-12 is read.") from error
    found: Schema = schema
    return found


def fits(schema: Schema, value: Any) -> bool:
    """Return whether a value is valid against a schema that `read_schema` has taken.

    Raises:
        TimeoutError: A pattern of the schema took too long.
    """
    try:
        return _fits(schema, value, schema)
    except RecursionError:
        return False


def _problem(message: str, fix: str) -> ProblemError:
    return ProblemError(Problem("evaluation.json_schema", message, fix, PATH))


def _no_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check(schema: Any, root: Schema, place: str, *, depth: int) -> None:
    """Raise `ValueError` where a schema says something that would not be looked at."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{place} is neither an object nor true or false")
    if depth > 100:
        raise ValueError(f"{place} is nested too deeply")
    for key in sorted(_REFUSED.intersection(schema)):
        raise ValueError(f"{key} at {place} is not understood here")
    for problem in _faults(schema, root):
        raise ValueError(f"{problem} at {place}")
    for key, inner in _inner(schema):
        _check(inner, root, f"{place}/{key}", depth=depth + 1)


def _inner(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((key, schema[key]) for key in _ONE if key in schema)
    for key in _LISTS:
        yield from ((f"{key}/{place}", each) for place, each in enumerate(schema.get(key, ())))
    for key in _MAPS:
        yield from ((f"{key}/{name}", each) for name, each in schema.get(key, {}).items())


def _faults(schema: Mapping[str, Any], root: Schema) -> Iterator[str]:
    types = schema.get("type", [])
    if not set([types] if isinstance(types, str) else types if isinstance(types, list) else [None]) <= set(_TYPES):
        yield f"type is none of {', '.join(_TYPES)}"
    for key in (*_LISTS, "enum", "required"):
        if not isinstance(schema.get(key, []), list):
            yield f"{key} is no list"
    for key in (*_MAPS, "dependentRequired"):
        if not isinstance(schema.get(key, {}), dict):
            yield f"{key} is no object"
    for key in (*_COUNTS, *_NUMBERS, "minContains", "maxContains"):
        if not _is_number(schema.get(key, 0)):
            yield f"{key} is no number"
    if schema.get("multipleOf", 1) == 0:
        yield "multipleOf is 0"
    patterns = schema.get("patternProperties")
    for pattern in [schema.get("pattern", ""), *(patterns if isinstance(patterns, dict) else ())]:
        try:
            regex.compile(pattern)
        except (regex.error, TypeError):
            yield "a pattern cannot be read"
    if "$ref" in schema:
        try:
            _referred(schema["$ref"], root)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            yield f"$ref {schema['$ref']} leads nowhere in this file"


def _referred(reference: str, root: Schema) -> Schema:
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError("it leaves the file")
    found: Any = root
    for part in reference[2:].split("/") if reference != "#" else ():
        key = part.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list) else found[key]
    if not isinstance(found, dict | bool):
        raise ValueError("no schema stands there")
    return found


def _fits(schema: Schema, value: Any, root: Schema) -> bool:
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not _fits(_referred(schema["$ref"], root), value, root):
        return False
    rules = (_plain, _combined, _BY_TYPE.get(_type(value)))
    return all(rule(schema, value, root) for rule in rules if rule is not None)


def _plain(schema: Mapping[str, Any], value: Any, root: Schema) -> bool:
    types = schema.get("type")
    if types is not None and not any(_is(value, name) for name in ([types] if isinstance(types, str) else types)):
        return False
    if "enum" in schema and not any(_same(value, each) for each in schema["enum"]):
        return False
    return "const" not in schema or _same(value, schema["const"])


def _combined(schema: Mapping[str, Any], value: Any, root: Schema) -> bool:
    def holds(inner: Schema) -> bool:
        return _fits(inner, value, root)

    if not all(map(holds, schema.get("allOf", ()))):
        return False
    if "anyOf" in schema and not any(map(holds, schema["anyOf"])):
        return False
    if "oneOf" in schema and sum(map(holds, schema["oneOf"])) != 1:
        return False
    if "not" in schema and holds(schema["not"]):
        return False
    if "if" not in schema:
        return True
    return holds(schema.get("then" if holds(schema["if"]) else "else", True))


def _object(schema: Mapping[str, Any], value: dict[str, Any], root: Schema) -> bool:
    if not set(schema.get("required", ())) <= set(value) or not _within(schema, len(value), "Properties"):
        return False
    for name, others in schema.get("dependentRequired", {}).items():
        if name in value and not set(others) <= set(value):
            return False
    for name, inner in schema.get("dependentSchemas", {}).items():
        if name in value and not _fits(inner, value, root):
            return False
    return all(_entry(schema, name, entry, root) for name, entry in value.items())


def _entry(schema: Mapping[str, Any], name: str, entry: Any, root: Schema) -> bool:
    if not _fits(schema.get("propertyNames", True), name, root):
        return False
    named = schema.get("properties", {})
    said = [named[name]] if name in named else []
    said += [inner for pattern, inner in schema.get("patternProperties", {}).items() if _found(pattern, name)]
    return all(_fits(inner, entry, root) for inner in said or [schema.get("additionalProperties", True)])


def _array(schema: Mapping[str, Any], value: list[Any], root: Schema) -> bool:
    if not _within(schema, len(value), "Items"):
        return False
    first = schema.get("prefixItems", ())
    if not all(_fits(inner, entry, root) for inner, entry in zip(first, value, strict=False)):
        return False
    if not all(_fits(schema.get("items", True), entry, root) for entry in value[len(first) :]):
        return False
    if schema.get("uniqueItems") and any(_same(a, b) for place, a in enumerate(value) for b in value[:place]):
        return False
    if "contains" not in schema:
        return True
    count = sum(_fits(schema["contains"], entry, root) for entry in value)
    return bool(schema.get("minContains", 1) <= count <= schema.get("maxContains", count))


def _string(schema: Mapping[str, Any], value: str, root: Schema) -> bool:
    return _within(schema, len(value), "Length") and ("pattern" not in schema or _found(schema["pattern"], value))


def _number(schema: Mapping[str, Any], value: float, root: Schema) -> bool:
    fits = schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if "exclusiveMinimum" in schema:
        fits = fits and value > schema["exclusiveMinimum"]
    if "exclusiveMaximum" in schema:
        fits = fits and value < schema["exclusiveMaximum"]
    # As written: 0.3 is three times 0.1, which the nearest binary numbers are not.
    return bool(fits) and (
        "multipleOf" not in schema or (Fraction(str(value)) / Fraction(str(schema["multipleOf"]))).denominator == 1
    )


_BY_TYPE: dict[str, Callable[[Mapping[str, Any], Any, Schema], bool]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
}


def _within(schema: Mapping[str, Any], count: int, what: str) -> bool:
    return bool(schema.get(f"min{what}", 0) <= count <= schema.get(f"max{what}", count))


def _found(pattern: str, text: str) -> bool:
    return regex.search(pattern, text, timeout=PATTERN_LIMIT_S) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _is(value: Any, name: str) -> bool:
    if name == "integer":
        return _is_number(value) and value == int(value)
    return _type(value) == name


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal: 1 is 1.0, and is not true."""
    if _type(one) != _type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return set(one) == set(other) and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)
