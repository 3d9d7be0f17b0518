"""Rows in a file instead of in memory: an Arrow file with an id and a JSON text for each row, mapped and read lazily.

Text and not columns, because rows of one data set need not have one shape: a call of a tool may have any arguments.
A row takes no memory until somebody asks for it, and the pages of the file that a pass over the rows has touched are
given back on the way, so that data larger than memory is like any other. An open store outlives its file: the file may
be removed, and its space is free when nobody holds the store any more.
"""

import json
import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from engine.data.rows import RawRow, Row

Numbers: TypeAlias = range | npt.NDArray[np.int64]
"""Which rows of a file a store shows, in its order."""

_SCHEMA = pa.schema([("id", pa.large_binary()), ("row", pa.large_binary())])
_BATCH_ROWS = 1024
_BATCH_BYTES = 2 << 20
"""A batch ends with the row that makes it larger; one row of 30 MB is a batch of its own."""
_TOUCHED_BYTES = 8 << 20
"""Bytes read from the file after which its pages are given back; they count as memory of the process otherwise."""
_FAULT_BYTES = 256 << 10
"""What Linux maps around what is read of a batch, its head, offsets and cells; seen were 200 to 600 KiB."""


def _stand_in(value: object) -> dict[str, None]:
    # Bytes and durations of an Arrow file are no text to anybody who reads rows, and must not become any.
    return {type(value).__name__: None}


# `json.dumps` makes an encoder at every call and `json.loads` guesses an encoding: a third of their time on short rows.
_encode = json.JSONEncoder(default=_stand_in).encode
_decode = json.JSONDecoder().raw_decode


def row_text(row: Any) -> str:
    """Return a row as one line of JSON in ASCII, without the line feed: what stands in a store and in a JSONL file."""
    return _encode(row)


def row_of(text: bytes) -> Any:
    """Return the row that `row_text` has written."""
    return _decode(text.decode("ascii"))[0]


class RowWriter:
    """Writes rows into a new file, in order; a context manager that closes it.

    Args:
        path: The file; one that is there is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._out = pa.ipc.new_file(self._file, _SCHEMA)
        self._ids: list[bytes] = []
        self._texts: list[bytes] = []
        self._num_bytes = 0
        self.num_rows = 0

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
            self._out.close()
        finally:
            self._file.close()

    def add(self, row: Row) -> bytes:
        """Write a row and return its text.

        Raises:
            OSError: The disk is full.
        """
        text = row_text(row).encode("ascii")
        self.put(row["id"], text)
        return text

    def put(self, row_id: str, text: bytes) -> None:
        """Write a row that is JSON already.

        Args:
            row_id: What the row is called.
            text: As `row_text` gives it.

        Raises:
            OSError: The disk is full.
        """
        # File names on Linux are bytes, and Python spells the odd ones with surrogates.
        self._ids.append(row_id.encode("utf-8", "surrogatepass"))
        self._texts.append(text)
        self._num_bytes += len(text)
        self.num_rows += 1
        if len(self._texts) >= _BATCH_ROWS or self._num_bytes >= _BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._texts:
            columns = [_column(self._ids), _column(self._texts)]
            self._out.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            self._ids, self._texts, self._num_bytes = [], [], 0


def _column(cells: Sequence[bytes]) -> Any:
    """Return cells as a column of a batch; `pyarrow.array` takes three times as long."""
    offsets = np.zeros(len(cells) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, cells), np.int64, len(cells)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(cells))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(cells), buffers)


@dataclass(slots=True)
class _Mapped:
    """A mapped file: its batches, and the number of the first row of each, with the number of all rows last."""

    reader: Any
    memory: mmap.mmap
    starts: Sequence[int]
    touched_bytes: int = 0

    def touch(self, num_bytes: int) -> None:
        """Count bytes that were read, and give the pages of the file back when they are many."""
        self.touched_bytes += num_bytes
        if self.touched_bytes > _TOUCHED_BYTES:
            self.memory.madvise(mmap.MADV_DONTNEED)
            self.touched_bytes = 0


class RowStore(Sequence[Row]):
    """The rows of a file that `RowWriter` has written, each read when it is asked for.

    Args:
        path: The file, whole.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(memory)))
        sizes = (reader.get_batch(index).num_rows for index in range(reader.num_record_batches))
        starts = list(accumulate(sizes, initial=0))
        memory.madvise(mmap.MADV_DONTNEED)
        self._mapped = _Mapped(reader, memory, starts)
        self._numbers: Numbers = range(starts[-1])

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> "RowStore": ...
    def __getitem__(self, place: int | slice) -> "Row | RowStore":
        if isinstance(place, slice):
            return self._view(self._numbers[place])
        row: Row = row_of(next(self._cells("row", [self._number(place)])))
        return row

    def __iter__(self) -> Iterator[Row]:
        return map(row_of, self.texts())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str | bytes):
            return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RowStore of {len(self):,} rows"

    def only(self, places: Iterable[int]) -> "RowStore":
        """Return a view of some of these rows, by their places in this store, in the order given.

        Args:
            places: From 0 on; a numpy array of integers costs least.
        """
        chosen = places if isinstance(places, np.ndarray) else np.fromiter(places, np.int64)
        if isinstance(self._numbers, range):
            return self._view(chosen.astype(np.int64) * self._numbers.step + self._numbers.start)
        return self._view(self._numbers[chosen])

    def texts(self) -> Iterator[bytes]:
        """Yield the JSON text of each row, in ASCII and without a line feed."""
        return self._cells("row", self._numbers)

    def ids(self) -> Iterator[str]:
        """Yield the id of each row."""
        return (cell.decode("utf-8", "surrogatepass") for cell in self._cells("id", self._numbers))

    def id(self, place: int) -> str:
        """Return the id of one row."""
        return next(self._cells("id", [self._number(place)])).decode("utf-8", "surrogatepass")

    def _number(self, place: int) -> int:
        return int(self._numbers[place])

    def _view(self, numbers: Numbers) -> "RowStore":
        view = RowStore.__new__(RowStore)
        view._mapped, view._numbers = self._mapped, numbers
        return view

    def _cells(self, column: str, numbers: Iterable[int]) -> Iterator[bytes]:
        """Yield cells of some rows of the file; rows of one batch that follow each other are looked up once."""
        mapped = self._mapped
        start = end = 0
        cells: _Cells | None = None
        for number in numbers if isinstance(numbers, range) else _ints(numbers):
            if cells is None or not start <= number < end:
                index = bisect_right(mapped.starts, number) - 1
                start, end = mapped.starts[index], mapped.starts[index + 1]
                cells = _Cells(mapped.reader.get_batch(index).column(column))
                mapped.touch(_FAULT_BYTES)
            cell = cells.at(number - start)
            mapped.touch(len(cell))
            yield cell


def _ints(numbers: Iterable[int]) -> Iterator[int]:
    """Yield numbers as integers of Python, those of an array some at a time, so that they never stand in one list."""
    if not isinstance(numbers, np.ndarray):
        yield from numbers
        return
    for start in range(0, len(numbers), _BATCH_ROWS):
        yield from numbers[start : start + _BATCH_ROWS].tolist()


class _Cells:
    """The cells of one column of a batch, as bytes; a scalar of Arrow for each would take five times as long.

    Args:
        column: Of type large binary, without nulls.
    """

    def __init__(self, column: Any) -> None:
        _, offsets, data = column.buffers()
        self._data = memoryview(data)
        self._offsets = memoryview(offsets).cast("q")[column.offset :]

    def at(self, place: int) -> bytes:
        """Return one cell."""
        return bytes(self._data[self._offsets[place] : self._offsets[place + 1]])


class RawRows(Sequence[RawRow]):
    """Rows as files have them, in a store.

    Attributes:
        columns: Columns of all rows in order of appearance.
    """

    def __init__(self, store: RowStore, columns: Sequence[str]) -> None:
        self._store = store
        self.columns = list(columns)

    def __len__(self) -> int:
        return len(self._store)

    @overload
    def __getitem__(self, place: int) -> RawRow: ...
    @overload
    def __getitem__(self, place: slice) -> "RawRows": ...
    def __getitem__(self, place: int | slice) -> "RawRow | RawRows":
        if isinstance(place, slice):
            return RawRows(self._store[place], self.columns)
        return RawRow(self._store.id(place), self._store[place])

    def __iter__(self) -> Iterator[RawRow]:
        return (RawRow(where, values) for where, values in zip(self._store.ids(), self._store, strict=True))

    def only(self, places: Iterable[int]) -> "RawRows":
        """Return a view of some of these rows, as `RowStore.only` does."""
        return RawRows(self._store.only(places), self.columns)


def picked(rows: Sequence[Row], places: Iterable[int]) -> Sequence[Row]:
    """Return some rows by their places: a view of a store, a list of others."""
    return rows.only(places) if isinstance(rows, RowStore) else [rows[place] for place in places]


def id_of(rows: Sequence[Row], place: int) -> str:
    """Return the id of a row, of a store without reading the row."""
    row_id: str = rows.id(place) if isinstance(rows, RowStore) else rows[place]["id"]
    return row_id


def ids_of(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the id of each row, of a store without reading the rows."""
    return rows.ids() if isinstance(rows, RowStore) else (row["id"] for row in rows)
