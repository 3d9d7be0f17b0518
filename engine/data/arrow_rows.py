"""Parquet, Arrow and Feather files row by row, a few thousand at a time; `file:n` is the row number."""

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from engine.data.compression import BOMB_FLOOR_BYTES, BOMB_RATIO
from engine.data.paths import data_problem
from engine.data.rows import RawRow
from engine.recipe.problems import ProblemError
from engine.text import human_bytes

BATCH_ROWS = 512
_LEAST_BATCH_ROWS = 8
"""Fewer rows at once make reading ten times slower."""
_UNPACKED_BYTES = 64 << 20
_SUSPICIOUS_RATIO = 20
"""Columns of data are packed three to ten times."""
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
        total, size = file.metadata.num_rows, path.stat().st_size
        unpacked_bytes = 0
        for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata, size, name)):
            unpacked_bytes += batch.nbytes
            _refuse_bomb(unpacked_bytes, size, name)
            for values in batch.to_pylist():
                number += 1
                yield RawRow(f"{name}:{number}", plain_row(values))
            tell(number / max(1, total))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged("parquet", "Parquet", name, number, error) from error


def _rows_at_once(facts: Any, size: int, name: str) -> int:
    """Return how many rows are unpacked at once, so that a few values repeated without end cannot fill the memory.

    A column stores a value that repeats once; unpacked, each row holds a copy, at most as large as the column.

    Raises:
        ProblemError: What the file declares is a decompression bomb already.
    """
    groups = [facts.row_group(index) for index in range(facts.num_row_groups)]
    columns = [group.column(index) for group in groups for index in range(group.num_columns)]
    _refuse_bomb(sum(column.total_uncompressed_size for column in columns), size, name)
    largest = max((column.total_uncompressed_size for column in columns), default=1)
    dense = largest > _SUSPICIOUS_RATIO * size
    return int(max(1 if dense else _LEAST_BATCH_ROWS, min(BATCH_ROWS, _UNPACKED_BYTES // max(1, largest))))


def _refuse_bomb(unpacked_bytes: int, size: int, name: str) -> None:
    if unpacked_bytes > max(BOMB_FLOOR_BYTES, BOMB_RATIO * size):
        message = f"{name} grows beyond {human_bytes(unpacked_bytes)} out of {human_bytes(size)}, as no data does."
        raise data_problem("table_bomb", message, "Look at it with another program, and name a file of real rows.")


def _with_dictionary(kind: Any) -> bool:
    """Return whether a type stores repeated values once, at any depth."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return True
    return any(_with_dictionary(kind.field(index).type) for index in range(kind.num_fields))


def _num_chars(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_num_chars, value.values()))
    if isinstance(value, list):
        return sum(map(_num_chars, value))
    return len(value) if isinstance(value, str | bytes) else 0


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
            unpacked_bytes = 0
            for batch in _batches(source, head):
                repeats = any(_with_dictionary(field.type) for field in batch.schema)
                at_once = _LEAST_BATCH_ROWS if repeats else BATCH_ROWS
                for start in range(0, batch.num_rows, at_once):
                    for values in batch.slice(start, at_once).to_pylist():
                        number += 1
                        unpacked_bytes += _num_chars(values) if repeats else 0
                        _refuse_bomb(unpacked_bytes, size, name)
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
