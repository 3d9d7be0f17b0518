"""Local files to raw rows: which reader a file gets, and names and hashes of several files.

Own readers because the popular loader takes 12 of 30 damaged files without a word and places none of the others
(docs/data.md). Everything is held in memory; streaming belongs to the files larger than that.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from engine.data.bytes_in import check_path, data_problem, decode, read_bytes
from engine.data.json_rows import read_json, read_json_lines, refuse_wrapper
from engine.data.rows import RawRow
from engine.data.table_rows import read_csv, read_parquet
from engine.data.text_rows import read_text

_KIND_OF_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".parquet": "parquet",
    ".pq": "parquet",
}
SUPPORTED = "JSONL, JSON, CSV, TSV, Parquet, .txt and .md, each also as .gz but Parquet"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the data: where it lies, what it is called in messages, what is in it."""

    path: Path
    name: str
    kind: str
    sha256: str
    num_bytes: int
    rows: list[RawRow]


def read_sources(sources: list[str]) -> list[SourceFile]:
    """Read files in order.

    Args:
        sources: Paths, or `builtin:` names.

    Raises:
        ProblemError: Any file is missing or broken, with the place and the next action.
    """
    paths = [_local(source) for source in sources]
    for path in paths:
        check_path(path)
    doubled = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if doubled:
        raise data_problem("file_twice", f"{doubled[0]} is listed twice.", "Name each file once.")
    return [read_file(path, name) for path, name in zip(paths, _names(paths), strict=True)]


def _local(source: str) -> Path:
    if source.startswith("builtin:"):
        from engine.catalog.builtin import builtin_path

        return builtin_path(source)
    return Path(source)


def _names(paths: list[Path]) -> list[str]:
    """Return the file names, with their folder where two files are called the same."""
    counts = Counter(path.name for path in paths)
    return [path.name if counts[path.name] == 1 else str(path) for path in paths]


def read_file(path: Path, name: str) -> SourceFile:
    """Read one file that passed `check_path`."""
    kind = _kind(path)
    if kind == "parquet":
        content = path.read_bytes()
        rows = read_parquet(path, name)
    else:
        content = read_bytes(path)
        rows = _text_rows(decode(content, name), name, kind)
    return SourceFile(path, name, kind, hashlib.sha256(content).hexdigest(), len(content), rows)


def _text_rows(text: str, name: str, kind: str) -> list[RawRow]:
    if kind == "text":
        return read_text(text, name)
    if kind in ("csv", "tsv"):
        return read_csv(text, name, prefer="\t" if kind == "tsv" else ",")
    rows = (
        read_json_lines(text, name) if kind == "jsonl" and not text.lstrip().startswith("[") else read_json(text, name)
    )
    if not rows:
        raise data_problem("no_rows", f"{name} is an empty list.", "Name a file that holds rows.")
    if len(rows) == 1:
        refuse_wrapper(rows[0].values, name)
    return rows


def _kind(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    kind = _KIND_OF_SUFFIX.get(suffixes[-1] if suffixes else "")
    if kind:
        return kind
    with path.open("rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"{", b"[")):
        return "json"
    raise data_problem(
        "unknown_kind",
        f"{path} has an ending that says nothing about its content.",
        f"Give it the ending of its kind; read are {SUPPORTED}.",
    )


def hash_of(files: list[SourceFile]) -> str:
    """Return the sha256 of one file, or of the list of the hashes of several."""
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("".join(f"{file.sha256}\n" for file in files).encode()).hexdigest()
