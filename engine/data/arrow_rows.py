"""Parquet, Arrow and Feather files row by row, a few thousand at a time; `file:n` is the row number."""

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from engine.data.paths import data_problem
from engine.data.rows import RawRow
from engine.recipe.problems import ProblemError

BATCH_ROWS = 512
_FEATHER_1 = b"FEA1"
Told = Callable[[float], None]
"""Called with the share of the file that is done."""


def read_parquet(path: Path, name: str, tell: Told) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file, nested and dictionary columns as plain lists, objects and texts.

    Raises:
        ProblemError: The file is damaged or cut off; inside the rows, after which one.
    """
    number = 0
    try:
        # Buffered and not pre-fetched: a column chunk of a gigabyte is read page by page.
        file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
        total = file.metadata.num_rows
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield RawRow(f"{name}:{number}", plain_row(values))
            tell(number / max(1, total))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged("parquet", "Parquet", name, number, error) from error


def read_arrow(path: Path, name: str, tell: Told) -> Iterator[RawRow]:
    """Yield the rows of an Arrow IPC file (Feather is one) or stream.

    Raises:
        ProblemError: The file is damaged, cut off, or of the first Feather version.
    """
    number = 0
    try:
        with pa.memory_map(str(path)) as source:
            head = source.read(6)
            source.seek(0)
            if head.startswith(_FEATHER_1):
                fix = "Write it again as Parquet with a program that still reads it."
                raise data_problem("unsupported", f"{name} is a Feather file of version 1, which is not read.", fix)
            size = source.size()
            for batch in _batches(source, head):
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    for values in batch.slice(start, BATCH_ROWS).to_pylist():
                        number += 1
                        yield RawRow(f"{name}:{number}", plain_row(values))
                tell(min(1.0, source.tell() / max(1, size)))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged("arrow", "Arrow", name, number, error) from error


def _batches(source: Any, head: bytes) -> Iterator[Any]:
    if head != b"ARROW1":
        yield from pa.ipc.open_stream(source)
        return
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _damaged(code: str, kind: str, name: str, rows_read: int, error: Exception) -> ProblemError:
    cause = re.sub(r"\s+", " ", str(error)).rstrip(".")
    where = f" behind row {rows_read}" if rows_read else ""
    return data_problem(
        f"{code}_damaged", f"{name} is not a whole {kind} file{where}: {cause}.", "Copy or download it again."
    )


def plain_row(values: dict[str, Any]) -> dict[str, Any]:
    """Return a row as if it came from JSON: no nulls for absent keys of objects in lists, dates as ISO text."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any, *, inside: bool = False) -> Any:
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, list):
        return [_plain(item, inside=True) for item in value]
    if isinstance(value, dict):
        # Writers fill absent optional keys of structs with nulls: a message `{"role", "content", "name": null}`.
        kept = {key: _plain(item) for key, item in value.items() if not (inside and item is None)}
        return kept
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
