"""The fields of a recipe as one flat list, read from the schema: what forms, prompts, options and docs are made of."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.recipe.schema import Recipe

FieldKind = Literal["text", "int", "float", "bool", "choice", "choices", "list", "mapping"]


_PAIRS = {"text": "key: value texts", "int": "name: whole number", "float": "name: number"}


@dataclass(frozen=True, slots=True)
class RecipeField:
    """One field of a recipe.

    Attributes:
        path: Dotted path, such as `training.learning_rate`.
        title: One to three words.
        description: One sentence with unit and effect.
        why: Why the default is what it is; empty when there is none.
        level: `basic` is always shown, `advanced` folded away.
        kind: Shape of the value; `list` is a list of texts, `choices` several of `choices`, `mapping` text to `items`.
        choices: Values that can be chosen; empty when the kind has none.
        minimum: Least number, or least count of characters of a text; None when there is no limit.
        maximum: Greatest number, or greatest count of characters of a text; None when there is no limit.
        default: Value when nobody set one; None means that the plan derives it.
        optional: None is a value: the plan derives the field, or leaves it out.
        required: Must be set by somebody.
        accepts: All shapes that the field takes; `kind` is the first.
        items: What the values of a mapping are: `text`, `int` or `float`.
        exclusive_minimum: The value must lie above `minimum`.
        exclusive_maximum: The value must lie below `maximum`.
        group: What it belongs to inside a long section; empty in short ones.
    """

    path: str
    title: str
    description: str
    why: str
    level: Literal["basic", "advanced"]
    kind: FieldKind
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    default: Any
    optional: bool
    required: bool
    accepts: tuple[FieldKind, ...]
    exclusive_minimum: bool
    exclusive_maximum: bool
    items: Literal["text", "int", "float"] = "text"
    group: str = ""

    @property
    def section(self) -> str:
        """First part of the path, or nothing for a field at the top."""
        return self.path.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Last part of the path."""
        return self.path.rpartition(".")[2]

    def expected(self) -> str:
        """Return what the field takes in plain words, such as `a whole number of at least 1`."""
        words = " or ".join(self._words(kind) for kind in self.accepts)
        return f"{words}, or null" if self.optional else words

    def _words(self, kind: FieldKind) -> str:
        choices = ", ".join(self.choices)
        plain = {
            "bool": "true or false",
            "choice": f"one of {choices}",
            "choices": f"a list of {choices}",
            "list": "a list of texts",
            "mapping": f"a section of {_PAIRS[self.items]}",
        }
        if kind in plain:
            return plain[kind]
        if kind == "text":
            return "text" + self._length()
        return ("a whole number" if kind == "int" else "a number") + self._range()

    def _length(self) -> str:
        limit = self.maximum if self.kind == "text" else None
        return "" if limit is None else f" of at most {limit:g} characters"

    def _range(self) -> str:
        if "text" in self.accepts or (self.minimum is None and self.maximum is None):
            return ""
        low = None if self.minimum is None else _plain(self.minimum)
        high = None if self.maximum is None else _plain(self.maximum)
        if low and high and not self.exclusive_minimum and not self.exclusive_maximum:
            return f" from {low} to {high}"
        lower = "" if low is None else f"above {low}" if self.exclusive_minimum else f"of at least {low}"
        upper = "" if high is None else f"below {high}" if self.exclusive_maximum else f"at most {high}"
        return " " + " and ".join(part for part in (lower, upper) if part)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else repr(float(number))


@cache
def recipe_fields() -> tuple[RecipeField, ...]:
    """Return all fields of a recipe, in the order of the schema."""
    return tuple(_fields_of(Recipe, ""))


@cache
def fields_by_path() -> dict[str, RecipeField]:
    """Return `{path: field}`; not to be changed."""
    return {field.path: field for field in recipe_fields()}


@cache
def section_titles() -> dict[str, tuple[str, str]]:
    """Return `{section: (title, description)}` in the order of the schema, such as `data` and `data.split`."""
    return dict(_sections_of(Recipe, ""))


def _sections_of(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, info in model.model_fields.items():
        section = _section_of(info)
        if section is not None:
            yield f"{prefix}{name}", (info.title or name, info.description or "")
            yield from _sections_of(section, f"{prefix}{name}.")


def _section_of(info: FieldInfo) -> type[BaseModel] | None:
    annotation = info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _fields_of(model: type[BaseModel], prefix: str) -> Iterator[RecipeField]:
    for name, info in model.model_fields.items():
        section = _section_of(info)
        if section is None:
            yield _field(f"{prefix}{name}", info)
        else:
            yield from _fields_of(section, f"{prefix}{name}.")


def _field(path: str, info: FieldInfo) -> RecipeField:
    members = _members(info.annotation)
    kinds = tuple(dict.fromkeys(kind for kind in map(_kind, members) if kind))
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    low, low_exclusive, high, high_exclusive = _bounds(info)
    return RecipeField(
        path=path,
        title=info.title or path,
        description=info.description or "",
        why=str(extra.get("why", "")),
        level="advanced" if extra.get("level") == "advanced" else "basic",
        kind=kinds[0],
        choices=tuple(choice for member in members for choice in _choices(member)),
        minimum=low,
        maximum=high,
        default=None if info.is_required() else info.get_default(call_default_factory=True),
        optional=type(None) in members,
        required=info.is_required(),
        accepts=kinds,
        exclusive_minimum=low_exclusive,
        exclusive_maximum=high_exclusive,
        items=next((found for member in members if (found := _items_of(member))), "text"),
        group=str(extra.get("group", "")),
    )


def _items_of(member: Any) -> Literal["int", "float"] | None:
    """Return which numbers a mapping holds, if it holds any; bounds wrap them in `Annotated`."""
    if get_origin(member) is not dict:
        return None
    held = (get_args(member)[1], *get_args(get_args(member)[1]))
    return "int" if int in held else "float" if float in held else None


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _kind(member: Any) -> FieldKind | None:
    if member is type(None):
        return None
    scalars: dict[Any, FieldKind] = {str: "text", int: "int", float: "float", bool: "bool"}
    if member in scalars:
        return scalars[member]
    origin = get_origin(member)
    if origin is Literal:
        return "choice"
    if origin is list:
        return "choices" if get_origin(get_args(member)[0]) is Literal else "list"
    if origin is dict:
        return "mapping"
    raise TypeError(f"no form is known for a recipe field of type {member}")


def _choices(member: Any) -> tuple[str, ...]:
    if get_origin(member) is list:
        member = get_args(member)[0]
    return tuple(map(str, get_args(member))) if get_origin(member) is Literal else ()


def _bounds(info: FieldInfo) -> tuple[float | None, bool, float | None, bool]:
    low: float | None = None
    high: float | None = None
    low_exclusive = high_exclusive = False
    for rule in info.metadata:
        match rule:
            case annotated_types.Ge(ge=value):
                low = _number(value)
            case annotated_types.Gt(gt=value):
                low, low_exclusive = _number(value), True
            case annotated_types.Le(le=value):
                high = _number(value)
            case annotated_types.Lt(lt=value):
                high, high_exclusive = _number(value), True
            case annotated_types.MinLen(min_length=value):
                low = _number(value)
            case annotated_types.MaxLen(max_length=value):
                high = _number(value)
    return low, low_exclusive, high, high_exclusive


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"a bound of a recipe field must be a number, not {value!r}")
    return value
