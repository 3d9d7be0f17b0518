"""One file to raw rows, streamed: which reader it gets, what is odd in it, its hash and its progress.

Own readers because the popular loader takes 12 of 30 damaged files without a word and places none of the others
(docs/data.md). A file larger than memory is read in the same few hundred megabytes as a small one.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, cast

from engine.data.bytes_in import CHUNK_BYTES, UNWATCHED, ByteStream, Watch
from engine.data.compression import PACKING_SUFFIXES, packing_by_magic
from engine.data.json_rows import may_be_wrapper, read_json
from engine.data.paths import check_path, data_problem, unreadable
from engine.data.rows import RawRow
from engine.data.table_rows import find_dialect, read_csv
from engine.data.text_in import TextStream, refuse_impostors
from engine.data.text_rows import TextUnit, read_text
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

Kind = Literal["jsonl", "json", "csv", "tsv", "text", "parquet", "arrow"]
KIND_OF_SUFFIX: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
KIND_TITLES: dict[Kind, str] = {
    "jsonl": "JSON Lines",
    "json": "JSON",
    "csv": "CSV",
    "tsv": "TSV",
    "text": "text",
    "parquet": "Parquet",
    "arrow": "Arrow",
}
SUPPORTED = "JSONL, JSON, CSV, TSV, Parquet, Arrow, .txt and .md; all but Parquet and Arrow also as .gz, .zst or .zip"
_TABLES: tuple[Kind, ...] = ("parquet", "arrow")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the recipe says about reading.

    Attributes:
        encoding: `data.encoding`, for text that is not Unicode.
        unwrap: `data.unwrap`, the key that holds the rows of a JSON object.
        text_unit: `data.text_unit`, what one row of a plain text is.
    """

    encoding: str | None = None
    unwrap: str | None = None
    text_unit: TextUnit = "passage"


PLAIN_OPTIONS = ReadOptions()


@dataclass(slots=True)
class OpenSource:
    """One file that is being read: iterate it for its rows, once.

    Attributes:
        path: Where it lies.
        name: What it is called in messages and row ids.
        kind: Which reader it has.
        encoding: How its bytes are read; empty for Parquet and Arrow.
        evidence: One sentence that says how it is read where that was found out; else empty.
        total_bytes: Its size on disk.
        num_rows: Rows given out so far.
        num_bytes: Unpacked bytes read so far.
        sha256: Hash of the unpacked content; empty until the last row was given out.
        problems: Broken rows found so far; the reading ends with them.
        used: Options of the recipe that made a difference for this file, such as `encoding`.
        remarks: Warnings about what was read so far.
    """

    path: Path
    name: str
    kind: Kind
    total_bytes: int
    watch: Watch
    options: ReadOptions
    encoding: str = ""
    evidence: str = ""
    num_rows: int = 0
    num_bytes: int = 0
    sha256: str = ""
    problems: list[Problem] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    _content: ByteStream | None = None
    _text: TextStream | None = None

    def __enter__(self) -> "OpenSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._content is not None:
            self._content.close()

    @property
    def remarks(self) -> list[Problem]:
        """Warnings about what was read so far."""
        return self._text.remarks.problems() if self._text is not None else []

    def __iter__(self) -> Iterator[RawRow]:
        """Yield the rows.

        Raises:
            ProblemError: Broken, empty, or changed while it was read.
            ReadingStoppedError: The watch asked for a stop.
        """
        rows = self._table_rows() if self._content is None else self._text_rows()
        for row in _told_apart(rows):
            self.num_rows += 1
            yield row
        if not self.num_rows:
            raise self._without_rows()

    def _text_rows(self) -> Iterator[RawRow]:
        content = cast(ByteStream, self._content)
        for row in _reader(cast(TextStream, self._text), self):
            self.num_bytes = content.content_bytes
            yield row
        self.num_bytes, self.sha256 = content.content_bytes, content.sha256
        self.encoding = cast(TextStream, self._text).encoding.label
        if cast(TextStream, self._text).chosen_encoding_used:
            self.used.add("encoding")

    def _table_rows(self) -> Iterator[RawRow]:
        # pyarrow takes a tenth of a second to import, which a JSONL file need not wait for.
        from engine.data.arrow_rows import read_arrow, read_parquet

        reader = read_parquet if self.kind == "parquet" else read_arrow

        def tell(share: float) -> None:
            self.num_bytes = round(share * self.total_bytes)
            self.watch.tell(self.num_bytes, self.total_bytes)

        yield from reader(self.path, self.name, tell)
        self.num_bytes = self.total_bytes
        self.sha256 = _hash_of_file(self.path, self.watch)

    def _without_rows(self) -> ProblemError:
        if self._text is not None:
            self._text.refuse_blank()
        what = {"json": "is an empty list", "jsonl": "is an empty list", "csv": "has a header and no rows"}
        words = what.get(self.kind, "has columns and no rows")
        return data_problem("no_rows", f"{self.name} {words}.", "Name a file that holds rows.")


def open_source(
    path: Path, name: str = "", *, options: ReadOptions = PLAIN_OPTIONS, watch: Watch = UNWATCHED
) -> OpenSource:
    """Open one local file for reading row by row; use it as a context manager.

    Args:
        path: The file.
        name: What it is called in messages; its file name when empty.
        options: What the recipe says about reading.
        watch: Told about progress, and asked whether to go on.

    Raises:
        ProblemError: It is no file that can be read, with the cause and the next action.
    """
    name = name or path.name
    check_path(path)
    head = _first_bytes(path)
    kind = kind_of(path, head)
    total_bytes = path.stat().st_size
    if kind in _TABLES:
        return OpenSource(path, name, kind, total_bytes, watch, options)
    if packing_by_magic(head) == "plain":
        # A page or a pointer is told as one, also under a name that promises an archive.
        refuse_impostors(head, name)
    content = ByteStream(path, name, watch)
    try:
        text = TextStream(content, options.encoding)
        kind = kind or _kind_of_content(text.head, path)
    except BaseException:
        content.close()
        raise
    source = OpenSource(path, name, kind, total_bytes, watch, options, text.encoding.label)
    source._content, source._text = content, text
    return source


def _told_apart(rows: Iterable[RawRow]) -> Iterator[RawRow]:
    """Yield rows under names of their own: `file:line`, and `file:line#2` for the second one that begins on a line.

    A JSON list on one line, or a text without line breaks, would else give all its rows one name, and what is kept
    under the name of a row, such as its side of a split, would hold for all of them.
    """
    before, count = "", 1
    for row in rows:
        if row.where == before:
            count += 1
            yield RawRow(f"{before}#{count}", row.values)
        else:
            before, count = row.where, 1
            yield row


def _reader(text: TextStream, source: OpenSource) -> Iterator[RawRow]:
    options = source.options
    if source.kind == "text":
        source.used.add("text_unit")
        return read_text(text.chunks(), text.name, unit=options.text_unit)
    if source.kind == "csv" or source.kind == "tsv":
        dialect = find_dialect(text.head, "\t" if source.kind == "tsv" else ",")
        source.evidence = dialect.evidence()
        return read_csv(text, dialect, source.problems)
    if may_be_wrapper(text.head):
        source.used.add("unwrap")
    return read_json(text, "json" if source.kind == "json" else "jsonl", source.problems, options.unwrap)


def refuse_unused(options: ReadOptions, used: Collection[str]) -> None:
    """Refuse what the recipe sets and no file of the data needed.

    Args:
        options: What the recipe says about reading.
        used: `OpenSource.used` of all files together.

    Raises:
        ProblemError: For `data.encoding`, `data.unwrap` and `data.text_unit`.
    """
    reasons = {
        "encoding": (options.encoding, "all text of the data is Unicode"),
        "unwrap": (options.unwrap, "no file of the data is one JSON object"),
        "text_unit": (None if options.text_unit == "passage" else options.text_unit, "no file of the data is text"),
    }
    problems = [
        Problem(f"data.{key}_unused", f"data.{key} is {clean_line(value)}, and {reason}.", "Remove it.", f"data.{key}")
        for key, (value, reason) in reasons.items()
        if value is not None and key not in used
    ]
    if problems:
        raise ProblemError(*problems)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4096)
    except OSError as error:
        raise unreadable(path, error) from error


def suffix_kind(path: Path) -> Kind | None:
    """Return what the ending of a file promises, compression left aside; None where it says nothing."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKING_SUFFIXES:
        suffixes.pop()
    return KIND_OF_SUFFIX.get(suffixes[-1]) if suffixes else None


def kind_of(path: Path, head: bytes) -> Kind | None:
    """Return the kind of a file: a signature at its start wins over its ending; None where neither tells."""
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"FEA1")):
        return "arrow"
    kind = suffix_kind(path)
    if kind in _TABLES:
        _refuse_table_impostor(path, head)
    return kind


def _refuse_table_impostor(path: Path, head: bytes) -> None:
    """Refuse text or nothing under the name of a table, with the cause that text files get."""
    refuse_impostors(head, path.name)
    if packing_by_magic(head) != "plain":
        fix = "Unpack it and name the unpacked file; Parquet and Arrow are compressed inside already."
        raise data_problem("nested_archive", f"{path.name} is compressed around its table.", fix)


def _kind_of_content(head: str, path: Path) -> Kind:
    if head.lstrip().startswith(("{", "[")):
        return "json"
    raise data_problem(
        "unknown_kind",
        f"{path} has an ending that says nothing about its content.",
        f"Give it the ending of its kind; read are {SUPPORTED}.",
    )


def _hash_of_file(path: Path, watch: Watch) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            watch.tell(size, size)
    return digest.hexdigest()
