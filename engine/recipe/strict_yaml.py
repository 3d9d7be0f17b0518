"""YAML read strictly: core scalars of YAML 1.2, one document, no anchors, aliases, tags or duplicate keys, and limits.

PyYAML follows YAML 1.1, where `1e-4` is text, `no` is false, `010` is 8, `12:30:45` is a number, the last of two equal
keys wins in silence and twenty lines of aliases fill the memory. Only its parser is used here; what scalars mean is
decided by the core schema of YAML 1.2.2, section 10.3.2 (https://yaml.org/spec/1.2.2/#103-core-schema).

Numbers remember how they were written (`WrittenInt`, `WrittenFloat`), so that a field that wants text gets `1.10` and
not `1.1`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_VALUES = 10_000
"""The slowest 256 KiB would otherwise take PyYAML a quarter of a minute."""
MAX_NUMBER_CHARS = 400
"""Python refuses to turn more than 4300 digits into a number, and no setting needs a hundredth of that."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NOT_A_NUMBER = re.compile(r"\.(nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNPRINTABLE = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

Position = tuple[int, int]
"""Line and column, both counted from 1."""


class WrittenInt(int):
    """A whole number that remembers how it was written, such as `010`."""

    text: str

    def __new__(cls, value: int, text: str) -> "WrittenInt":
        """Make a number with its spelling."""
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make an equal number from."""
        return WrittenInt, (int(self), self.text)


class WrittenFloat(float):
    """A number that remembers how it was written, such as `1.10`."""

    text: str

    def __new__(cls, value: float, text: str) -> "WrittenFloat":
        """Make a number with its spelling."""
        number = super().__new__(cls, value)
        number.text = text
        return number

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what `copy` and `pickle` make an equal number from."""
        return WrittenFloat, (float(self), self.text)


@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML text says.

    Attributes:
        value: Dictionaries, lists and scalars.
        positions: `{dotted path: (line, column)}` of each key and list item, such as `data.source.1`.
    """

    value: Any
    positions: dict[str, Position]


class _Failure(Exception):
    """A finding at a place; turned into a `ProblemError` where the name of the file is known."""

    def __init__(self, code: str, message: str, fix: str, position: Position) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fix = fix
        self.position = position


def parse_document(text: str, *, name: str) -> Document:
    """Parse one YAML document.

    Args:
        text: The document.
        name: File name, or another word for where the text comes from, put in front of each finding.

    Raises:
        ProblemError: `NAME:LINE:COLUMN: cause`, and the fix.
    """
    try:
        _check_text(text)
        return _Composer(text).compose()
    except _Failure as failure:
        place = ":".join(map(str, (clean_line(name), *failure.position)))
        raise ProblemError(Problem(failure.code, f"{place}: {failure.message}", failure.fix)) from None


def resolve_scalar(text: str) -> Any:
    """Return what an unquoted scalar means in the core schema of YAML 1.2: null, bool, number or the text itself.

    Raises:
        ValueError: A number with more than `MAX_NUMBER_CHARS` characters.
    """
    if _NULL.fullmatch(text):
        return None
    if text in _BOOL:
        return _BOOL[text]
    if len(text) > MAX_NUMBER_CHARS and any(kind.fullmatch(text) for kind in (_FLOAT, _OCTAL, _HEXADECIMAL)):
        raise ValueError(f"a number with {len(text)} characters")
    if _INT.fullmatch(text):
        return WrittenInt(int(text), text)
    if _OCTAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        return WrittenInt(int(text, 0), text)
    if _FLOAT.fullmatch(text):
        return WrittenFloat(float(text), text)
    if _INFINITY.fullmatch(text):
        return WrittenFloat(float(text.replace(".", "")), text)
    if _NOT_A_NUMBER.fullmatch(text):
        return WrittenFloat(float("nan"), text)
    return text


def dump_document(value: Mapping[str, Any]) -> str:
    """Return YAML that `parse_document` reads back as the same value, and that YAML 1.1 readers take the same way.

    Args:
        value: Dictionaries with text keys, lists, texts, numbers, bools and None.
    """
    return yaml.dump(
        dict(value),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=MAX_BYTES,
    )


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text; writes no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out each time: an alias would not be read back."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML picks styles that lose what they hold: a next-line character (U+0085) in single quotes comes back as a
    # blank. Only what shows as it is may stand bare or in a block; the rest is escaped in double quotes.
    shown = text.replace("\n", "").isprintable()
    block = shown and "\n" in text.rstrip("\n") and not re.search(r"^\s|[ ]$", text, re.MULTILINE)
    style = "|" if block else '"' if not shown or "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^({_FLOAT.pattern})$"), list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^({_OCTAL.pattern})$"), ["0"])


def _check_text(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise _Failure(
            "yaml.too_large",
            f"the text has {size} bytes, and at most {MAX_BYTES} are read.",
            "Put data into a data file and name it here.",
            (1, 1),
        )
    found = _UNPRINTABLE.search(text, 1 if text.startswith("\ufeff") else 0)
    if found:
        raise _Failure(
            "yaml.character",
            f"the character U+{ord(found.group()):04X} is not allowed in YAML.",
            "Remove it, or write it as an escape in double quotes.",
            _position_at(text, found.start()),
        )


def _position_at(text: str, index: int) -> Position:
    start = text.rfind("\n", 0, index) + 1
    return text.count("\n", 0, index) + 1, index - start + 1


def _position(mark: Any) -> Position:
    return mark.line + 1, mark.column + 1


class _Composer:
    """Builds values from the parser's events, without recursion into what has not passed the depth limit."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parser: Any = yaml.SafeLoader(text)
        self._positions: dict[str, Position] = {}
        self._count = 0

    def compose(self) -> Document:
        """Return the only document; an empty text is None."""
        self._next()  # the start of the stream
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return Document(None, self._positions)
        value = self._value(self._next(), path="", depth=0)
        self._next()  # the end of the document
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise _Failure(
                "yaml.second_document",
                "a second document starts here.",
                "Keep one document to a file, and remove the line with ---.",
                _position(event.start_mark),
            )
        return Document(value, self._positions)

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._parser.get_event()
        except yaml.MarkedYAMLError as error:
            raise self._failure(error) from None
        except (ValueError, OverflowError):
            # PyYAML hands the number of an escape such as "\\U99999999" to chr() unchecked.
            position = _position(self._parser.get_mark())
            raise _Failure("yaml.escape", "an escape names no character.", "Correct the escape.", position) from None
        return event

    def _failure(self, error: yaml.MarkedYAMLError) -> _Failure:
        mark = error.problem_mark or error.context_mark
        position = _position(mark) if mark else (1, 1)
        tab = self._tab_of_indentation(position[0])
        if tab is not None or "'\\t'" in (error.problem or ""):
            return _Failure(
                "yaml.tab",
                "a tab stands where YAML wants spaces.",
                "Indent with spaces only.",
                tab or position,
            )
        cause = clean_line(error.problem or error.context or "cannot be read")
        context = f" {clean_line(error.context)}" if error.context and error.problem else ""
        return _Failure("yaml.syntax", f"not valid YAML{context}: {cause}.", _hint(cause), position)

    def _tab_of_indentation(self, line: int) -> Position | None:
        lines = self._text.split("\n")
        for number in (line, line - 1):
            if 1 <= number <= len(lines):
                content = lines[number - 1]
                indentation = content[: len(content) - len(content.lstrip())]
                if "\t" in indentation:
                    return number, indentation.index("\t") + 1
        return None

    def _value(self, event: yaml.Event, *, path: str, depth: int) -> Any:
        position = _position(event.start_mark)
        self._refuse_references(event, position)
        self._count += 1
        if self._count > MAX_VALUES:
            _refuse("yaml.too_many", f"more than {MAX_VALUES} values.", "Put data into a data file.", position)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, position)
        if depth >= MAX_DEPTH:
            raise _Failure(
                "yaml.too_deep", f"nested more than {MAX_DEPTH} levels deep.", "A recipe needs three levels.", position
            )
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _refuse_references(self, event: yaml.Event, position: Position) -> None:
        if isinstance(event, yaml.AliasEvent):
            _refuse("yaml.alias", f"the alias *{event.anchor} is not read.", "Write the value out.", position)
        if getattr(event, "anchor", None) is not None:
            anchor = clean_line(getattr(event, "anchor", ""))
            _refuse("yaml.anchor", f"the anchor &{anchor} is not read.", "Remove it.", position)
        tag = getattr(event, "tag", None)
        if tag is not None:
            _refuse(
                "yaml.tag",
                f"the tag {clean_line(tag, max_chars=80)} is not read.",
                "Remove it; put text that looks like a number into quotes.",
                position,
            )

    def _scalar(self, event: yaml.ScalarEvent, position: Position) -> Any:
        _refuse_surrogates(event.value, position)
        if event.style is not None:
            return event.value
        try:
            return resolve_scalar(event.value)
        except ValueError as error:
            fix = "Write it in quotes if it is text."
            raise _Failure("yaml.number", f"{error} is too long.", fix, position) from None

    def _sequence(self, path: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = f"{path}.{len(items)}" if path else str(len(items))
            self._positions[item] = _position(event.start_mark)
            items.append(self._value(event, path=item, depth=depth + 1))
        return items

    def _mapping(self, path: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            position = _position(event.start_mark)
            key = self._key(event, position)
            child = f"{path}.{key}" if path else key
            if key in mapping:
                line = self._positions[child][0]
                _refuse(
                    "yaml.duplicate_key",
                    f"the key {clean_line(key, max_chars=80)} is already set in line {line}.",
                    "Keep one of the two.",
                    position,
                )
            self._positions[child] = position
            mapping[key] = self._value(self._next(), path=child, depth=depth + 1)
        return mapping

    def _key(self, event: yaml.Event, position: Position) -> str:
        self._refuse_references(event, position)
        if not isinstance(event, yaml.ScalarEvent):
            _refuse("yaml.key", "a key must be a word, not a list or a section.", "Write key: value.", position)
        _refuse_surrogates(event.value, position)
        return event.value


def _refuse_surrogates(text: str, position: Position) -> None:
    # Half a character can be written as an escape, and then in no file and on no screen.
    if _SURROGATE.search(text):
        _refuse("yaml.escape", "an escape names half a character.", "Write the character itself.", position)


def _refuse(code: str, message: str, fix: str, position: Position) -> NoReturn:
    raise _Failure(code, message, fix, position)


def _hint(cause: str) -> str:
    if "mapping values are not allowed" in cause:
        return "Put the value in quotes when it contains a colon, and check the indentation."
    if "cannot start any token" in cause:
        return "Put the value in quotes."
    if "block end" in cause or "block mapping" in cause:
        return "Check the indentation: keys of one section start in the same column."
    return "Check quotes, brackets and indentation."
