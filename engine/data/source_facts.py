"""What files are before they are read: kind and encoding of each, and which objective their rows suit."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from engine.catalog.objectives import find_objective
from engine.data.formats import TAKEN_FROM, Candidate, candidates
from engine.data.readers import KIND_TITLES, ReadOptions, open_source
from engine.data.rows import RawRow
from engine.data.sources import FileRef, expand
from engine.recipe.schema_data import DataSection
from engine.text import clean_line

LOOKED_AT = 1000
"""Rows at the start of the data that decide which objective it suits."""
_TEXT_OBJECTIVE = "domain-adaptation"


def source_files(data: DataSection) -> list[FileRef]:
    """Return the files that `data.source` stands for.

    Raises:
        ProblemError: A source names nothing that can be read.
    """
    return expand([data.source] if isinstance(data.source, str) else data.source)


def read_options(data: DataSection) -> ReadOptions:
    """Return what a data section says about reading files."""
    return ReadOptions(encoding=data.encoding, unwrap=data.unwrap, text_unit=data.text_unit)


def describe_files(data: DataSection) -> list[dict[str, Any]]:
    """Return name, kind, encoding, size and how each file is read, from its first bytes.

    Raises:
        ProblemError: A file is missing, or is none that can be read.
    """
    return [_described(file, read_options(data)) for file in source_files(data)]


def _described(file: FileRef, options: ReadOptions) -> dict[str, Any]:
    with open_source(file.path, file.name, options=options) as source:
        return {
            "name": clean_line(file.name),
            "kind": KIND_TITLES[source.kind],
            "encoding": source.encoding,
            "bytes": source.total_bytes,
            "weight": file.weight,
        }


def suited_objective(data: DataSection) -> tuple[str, str]:
    """Return the objective whose rows these are, and what they look like where no objective reads that.

    Plain text goes on being read, everything else is answered.

    Raises:
        ProblemError: A file is missing or broken.
    """
    if data.format is not None or data.mapping:
        return _TEXT_OBJECTIVE if data.format == "text" or "text" in data.mapping else "chat", ""
    rows = first_rows(data)
    if _is_sure(candidates(rows, "chat")):
        return "chat", ""
    objective = _TEXT_OBJECTIVE if _is_sure(candidates(rows, _TEXT_OBJECTIVE)) else "chat"
    likely = candidates(rows)
    unread = _is_sure(likely) and likely[0].format not in find_objective(objective).formats
    return objective, likely[0].evidence if unread else ""


def _is_sure(found: Sequence[Candidate]) -> bool:
    return bool(found) and found[0].confidence >= TAKEN_FROM


def first_rows(data: DataSection, count: int = LOOKED_AT) -> Sequence[RawRow]:
    """Return the first rows of the first file.

    Raises:
        ProblemError: The file is missing or broken.
    """
    file = source_files(data)[0]
    with open_source(file.path, file.name, options=read_options(data)) as source:
        return list(islice(source, count))
