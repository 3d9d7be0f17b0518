"""From bytes to checked text, chunk by chunk: encoding, NULs, control characters, and the impostors of data files."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.data.bytes_in import ByteStream
from engine.data.compression import packing_by_magic
from engine.data.encodings import (
    CONTROLS,
    UTF_8,
    Encoding,
    doubly_encoded,
    find_encoding,
    is_utf8,
    may_be_odd,
    wide_without_mark,
    wrong_encoding,
)
from engine.data.paths import data_problem
from engine.data.rows import MAX_ROWS_NAMED
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

MAX_ROW_CHARS = 32 * 2**20
"""Longest row that is read, about eight million tokens: three copies of it fit into the memory of reading."""


_REMARK_WORDS = {
    "double_encoded": (
        "line has text that was encoded twice, such as {detail}",
        "lines have text that was encoded twice, such as {detail}",
        "Write the file again from its source as UTF-8; the model would learn the broken letters.",
    ),
    "control_characters": (
        "line has control characters, such as {detail}",
        "lines have control characters, such as {detail}",
        "Remove them, or write the file again from its source.",
    ),
    "header_is_row": (
        "line is read as the names of the columns and looks like a row ({detail})",
        "lines are read as the names of the columns and look like rows ({detail})",
        "If it is a row, put a line of names above it, such as prompt,completion; it would be left out otherwise.",
    ),
    "header_again": (
        "line repeats the names of the columns and would be learned as a row",
        "lines repeat the names of the columns and would be learned as rows",
        "Delete them; files with a header each were joined.",
    ),
}
"""What one line has, what several have, and the next action, by code."""


@dataclass(slots=True)
class Remarks:
    """What is odd in a text without stopping its reading: how often, and the first places."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)

    def add(self, code: str, place: str, detail: str = "") -> None:
        """Count one place; the first few are kept."""
        self.counts[code] = self.counts.get(code, 0) + 1
        places = self.places.setdefault(code, [])
        if len(places) < MAX_ROWS_NAMED:
            places.append(place)
        self.details.setdefault(code, detail)

    def problems(self) -> list[Problem]:
        """Return one warning for each kind."""
        return [self._problem(code) for code in self.counts]

    def _problem(self, code: str) -> Problem:
        count, places = self.counts[code], self.places[code]
        named = ", ".join(places) + (f" and {count - len(places)} more" if count > len(places) else "")
        one, many, fix = _REMARK_WORDS[code]
        words = (one if count == 1 else many).format(detail=self.details[code])
        message = f"{count} {words}: {named}."
        return Problem(f"data.{code}", clean_line(message), fix, path="data.source", severity="warning")


def advance(line: int, column: int, text: str) -> tuple[int, int]:
    """Return the line and column, from 1, after a text that began at a line and column."""
    breaks = text.count("\n")
    return (line + breaks, len(text) - text.rfind("\n")) if breaks else (line, column + len(text))


class TextStream:
    """The text of one file, chunk by chunk.

    Attributes:
        name: What the file is called in messages.
        encoding: How its bytes are read.
        head: The first characters, about a million; looked at before the first row.
        blank: Nothing but white space has been given out so far.
        remarks: What is odd in the text given out so far.
    """

    def __init__(self, content: ByteStream, chosen_encoding: str | None = None) -> None:
        """Look at the first bytes.

        Raises:
            ProblemError: Empty, an HTML page, a Git-LFS pointer, an archive in an archive, or an unknown encoding.
        """
        self.name = content.name
        self.remarks = Remarks()
        self.blank = True
        refuse_impostors(content.head, content.name)
        self.encoding: Encoding = find_encoding(content.head, chosen_encoding)
        self._content = content
        self._unread = content.chunks()
        self._decoder = codecs.getincrementaldecoder(self.encoding.codec)("strict")
        self._line, self._column = 1, 1
        self._undecided = self.encoding.chosen
        self.head = self._decode(next(self._unread)[self.encoding.mark_bytes :])

    def chunks(self) -> Iterator[str]:
        """Yield the text from its first character to its last; only once.

        Raises:
            ProblemError: Bytes that the encoding does not have, or a NUL, with file, line and column.
        """
        yield from self._checked(self.head)
        for raw in self._unread:
            yield from self._checked(self._decode(raw))
        yield from self._checked(self._decode(b"", final=True))

    @property
    def chosen_encoding_used(self) -> bool:
        """Whether the encoding that the person named was needed so far."""
        return self.encoding.chosen and not self._undecided

    def refuse_blank(self) -> None:
        """Refuse a text that held only white space.

        Raises:
            ProblemError: It did.
        """
        if self.blank:
            raise data_problem("blank", f"{self.name} holds only blank lines.", "Name a file that holds rows.")

    def _decode(self, raw: bytes, *, final: bool = False) -> str:
        if self._undecided and not raw.isascii():
            # Up to here every encoding reads the same. UTF-8 read as a legacy one would be nonsense, so it wins.
            self._undecided = False
            if is_utf8(raw):
                self.encoding = UTF_8
                self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        try:
            return self._decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            raise self._undecodable(error) from error

    def _undecodable(self, error: UnicodeDecodeError) -> ProblemError:
        before = error.object[: error.start].decode(self.encoding.codec, "replace")
        line, column = advance(self._line, self._column, before)
        place = f"{self.name}:{line}:{column}"
        if self.encoding.codec == "utf-8":
            return wrong_encoding(error.object, error.start, place, self.name)
        byte = error.object[error.start]
        if self.encoding.chosen:
            fix = "Set data.encoding to the one that the file has, or save the file as UTF-8."
        else:
            fix = "Write the file again from its source as UTF-8."
        return data_problem("encoding", f"{place} is byte 0x{byte:02x}, which is not {self.encoding.label}.", fix)

    def _checked(self, text: str) -> Iterator[str]:
        if not text:
            return
        controls, doubled = may_be_odd(text)
        if controls and (at := text.find("\0")) >= 0:
            line, column = advance(self._line, self._column, text[:at])
            raise data_problem(
                "nul",
                f"{self.name}:{line}:{column} is a NUL character: the file is binary, or was damaged.",
                "Write the file again from its source.",
            )
        if controls:
            self._remark_controls(text)
        if doubled:
            self._remark_doubled(text)
        self.blank = self.blank and text.isspace()
        yield text
        self._line, self._column = advance(self._line, self._column, text)

    def _remark_controls(self, text: str) -> None:
        for offset, line in enumerate(text.split("\n")):
            if found := CONTROLS.search(line):
                self.remarks.add("control_characters", f"{self.name}:{self._line + offset}", f"U+{ord(found[0]):04X}")

    def _remark_doubled(self, text: str) -> None:
        for offset, line in enumerate(text.split("\n")):
            if not line.isascii() and (found := doubly_encoded(line)):
                _, doubled, meant = found
                self.remarks.add("double_encoded", f"{self.name}:{self._line + offset}", f"{doubled} for {meant}")


def refuse_impostors(head: bytes, name: str) -> None:
    """Refuse what passes for a data file and is none.

    Args:
        head: The first unpacked bytes.
        name: Name of the file.

    Raises:
        ProblemError: Empty, an archive inside the archive, an HTML page, an XML document, a Git-LFS pointer, a PDF or
            a database.
    """
    if not head:
        raise data_problem("empty", f"{name} is empty.", "Name a file that holds rows.")
    if packing_by_magic(head) != "plain":
        message = f"{name} holds another compressed file ({packing_by_magic(head)})."
        raise data_problem("nested_archive", message, "Unpack it by hand and name the file that holds the rows.")
    start = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise data_problem(
            "lfs_pointer", f"{name} is a Git-LFS pointer, not the data itself.", "Fetch the data with: git lfs pull."
        )
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        raise data_problem(
            "html", f"{name} is an HTML page, not data.", "Download the file itself, not the page that shows it."
        )
    if start.startswith((b"<?xml", b"<error>")):
        message = f"{name} is an XML document, not rows; storage services answer so where they refuse a download."
        raise data_problem("xml", message, "Look into it; download the file again, or write the rows as JSONL.")
    for magic, words in _BINARIES:
        if head.startswith(magic) and wide_without_mark(head) is None:
            fix = _OFFICE_FIX if words == _OFFICE else "Name a file of rows: JSONL, CSV, Parquet, Arrow or plain text."
            raise data_problem("binary", f"{name}:1:1 begins like {words}; it is binary, not text.", fix)


_OFFICE = "an old Office document"
_OFFICE_FIX = "If it is an Excel workbook, save the sheet with the rows as CSV UTF-8 and name that file."
_BINARIES = (
    (b"%PDF-", "a PDF document"),
    (b"SQLite format 3\0", "a database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x04\x95", "a pickle"),
)


def lines_of(chunks: Iterator[str], name: str) -> Iterator[tuple[int, str, bool]]:
    r"""Yield `(number from 1, line without its \n, whether a \n ended it)`.

    Raises:
        ProblemError: A line is longer than `MAX_ROW_CHARS`.
    """
    pieces: list[str] = []
    size, number = 0, 1
    for chunk in chunks:
        first, *rest = chunk.split("\n")
        pieces.append(first)
        size += len(first)
        if size > MAX_ROW_CHARS:
            raise row_too_long(name, number)
        for part in rest:
            yield number, "".join(pieces), True
            number += 1
            pieces, size = [part], len(part)
    if size:
        yield number, "".join(pieces), False


def row_too_long(name: str, line: int) -> ProblemError:
    """Return the refusal of a row that does not fit into the memory of reading."""
    return data_problem(
        "row_too_long",
        f"{name}:{line}:1: the row is longer than {MAX_ROW_CHARS // 2**20} million characters, "
        "more than any model reads.",
        "Cut it into several rows; for plain text save it as .txt, which is cut into passages.",
    )
