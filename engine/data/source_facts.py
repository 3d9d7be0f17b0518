"""What files are before they are read: kind and encoding of each, and which objective their rows suit."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

from engine.catalog.objectives import OBJECTIVES
from engine.data.formats import TAKEN_FROM, Candidate, candidates
from engine.data.readers import KIND_TITLES, ReadOptions, open_source
from engine.data.rows import RawRow
from engine.data.shapes_roles import NEEDED, Format, roles_of
from engine.data.sources import FileRef, expand
from engine.recipe.schema_data import DataSection
from engine.text import clean_line

LOOKED_AT = 1000
"""Rows at the start of the data that decide which objective it suits."""


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


def suited_objective(data: DataSection) -> str:
    """Return the objective whose rows these are; chat where that is not sure.

    Of several that read such rows it is the first of the catalogue.

    Raises:
        ProblemError: A file is missing or broken.
    """
    if data.format is not None:
        return _reader_of(data.format)
    if data.mapping:
        fits = (shape for shape in NEEDED if set(data.mapping) <= set(roles_of(shape)))
        return next((_reader_of(shape) for shape in fits), "chat")
    likely = candidates(first_rows(data))
    return _reader_of(likely[0].format) if _is_sure(likely) else "chat"


def _reader_of(shape: Format) -> str:
    return next(entry.name for entry in OBJECTIVES if shape in entry.formats)


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
