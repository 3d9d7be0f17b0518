"""Token ids in a memory-mapped Arrow file: written row by row, read a sequence at a time.

A sequence is a row of the table: its ids, where it is trained, and the row that it comes from. What every length of a
run needs of all sequences (`row_numbers`, `lengths`, the stretches that are trained) is read once into numpy arrays, 20
to 40 bytes a sequence; the ids stay in the file.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from engine.data.rendering import UncutRow

_INT_LIST = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [
        ("row_number", pa.int64()),
        ("row_id", pa.string()),
        ("is_text", pa.bool_()),
        ("input_ids", _INT_LIST),
        # First token and the one after the last of each trained stretch, one pair behind another.
        ("trained", _INT_LIST),
        # What is learnt besides tokens.
        ("targets", _INT_LIST),
    ]
)
_BATCH_ROWS = 4096
_BATCH_TOKENS = 4 << 20


class TokenWriter:
    """Writes rows as tokens into a new file, in order; a context manager that closes it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = pa.OSFile(str(path), "wb")
        self._out = pa.ipc.new_file(self._file, _SCHEMA)
        self._clear()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if error is None and self._ids:
                self._flush()
        finally:
            # The end of the Arrow file is written on closing, which a full disk refuses.
            with contextlib.closing(self._file):
                self._out.close()

    def add(self, uncut: UncutRow) -> None:
        """Append the sequences of a row."""
        for tokens in uncut.sequences:
            self._rows.append((uncut.number, uncut.row.get("id", ""), uncut.is_text))
            # An array of four bytes a token instead of a list, because a batch waits until it is large.
            self._ids.append(np.array(tokens.ids, dtype=np.int32))
            self._trained.append(tokens.runs)
            self._targets.append(tokens.targets)
            self._num_tokens += len(tokens.ids)
        if len(self._ids) >= _BATCH_ROWS or self._num_tokens >= _BATCH_TOKENS:
            self._flush()

    def _clear(self) -> None:
        self._rows: list[tuple[int, str, bool]] = []
        self._ids: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        self._trained: list[list[tuple[int, int]]] = []
        self._targets: list[Sequence[int]] = []
        self._num_tokens = 0

    def _flush(self) -> None:
        numbers, ids, texts = zip(*self._rows, strict=True)
        runs = np.fromiter(chain.from_iterable(chain.from_iterable(self._trained)), dtype=np.int32)
        targets = np.fromiter(chain.from_iterable(self._targets), dtype=np.int32)
        columns = [
            pa.array(numbers, pa.int64()),
            pa.array(ids, pa.string()),
            pa.array(texts, pa.bool_()),
            _lists(np.concatenate(self._ids), map(len, self._ids)),
            _lists(runs, (2 * len(each) for each in self._trained)),
            _lists(targets, map(len, self._targets)),
        ]
        self._out.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._clear()


def _lists(values: Any, lengths: Iterable[int]) -> Any:
    offsets = np.concatenate([[0], np.cumsum(list(lengths))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values, pa.int32()))


class TokenStore:
    """The sequences of a file, mapped into memory; it outlives its file.

    Attributes:
        row_numbers: Place of each sequence's row among the rows.
        lengths: Tokens of each sequence.
        is_text: Whether it is plain text.
        run_begins: First token of every trained stretch of all sequences, one sequence behind another.
        run_ends: The token after the last of each.
        run_places: The sequence of each.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that `TokenWriter` has closed."""
        reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
        batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        columns = [(_list_column(batch.column(3)), _list_column(batch.column(4))) for batch in batches]
        self._batches = [(batch.column(1), ids) for batch, (ids, _) in zip(batches, columns, strict=True)]
        self._targets = [_list_column(batch.column(5)) for batch in batches]
        self._firsts = [int(first) for first in np.cumsum([0, *(batch.num_rows for batch in batches)])]
        self.row_numbers = _joined(batch.column(0).to_numpy() for batch in batches)
        self.is_text = _joined((batch.column(2).to_numpy(zero_copy_only=False) for batch in batches), np.bool_)
        self.lengths = _joined(np.diff(offsets) for (_, offsets), _ in columns)
        runs = _joined(values[offsets[0] : offsets[-1]] for _, (values, offsets) in columns)
        self.run_begins, self.run_ends = runs[::2], runs[1::2]
        num_runs = _joined(np.diff(offsets) // 2 for _, (_, offsets) in columns)
        self.run_places = np.repeat(np.arange(len(self.lengths)), num_runs)
        self._run_firsts = np.concatenate([[0], np.cumsum(num_runs)])

    def __len__(self) -> int:
        return len(self.lengths)

    def row_id(self, place: int) -> str:
        """Return `file:line` of the row of a sequence."""
        batch, within = self._find(place)
        return str(self._batches[batch][0][within].as_py())

    def input_ids(self, place: int, begin: int, end: int) -> Any:
        """Return token ids of a sequence from one place to another, an array of shape [end - begin]."""
        batch, within = self._find(place)
        values, offsets = self._batches[batch][1]
        first = int(offsets[within])
        return values[first + begin : first + end]

    def targets(self, place: int) -> tuple[int, ...]:
        """Return what is learnt of a sequence besides its tokens."""
        batch, within = self._find(place)
        values, offsets = self._targets[batch]
        return tuple(values[offsets[within] : offsets[within + 1]].tolist())

    def runs(self, place: int) -> Iterator[tuple[int, int]]:
        """Yield where a sequence is trained."""
        which = slice(self._run_firsts[place], self._run_firsts[place + 1])
        return zip(self.run_begins[which].tolist(), self.run_ends[which].tolist(), strict=True)

    def _find(self, place: int) -> tuple[int, int]:
        batch = bisect_right(self._firsts, place) - 1
        return batch, place - self._firsts[batch]


def _list_column(column: Any) -> tuple[Any, Any]:
    """Return values and offsets of a list column, without copying them."""
    return column.values.to_numpy(), column.offsets.to_numpy()


def _joined(parts: Iterable[Any], dtype: Any = np.int64) -> Any:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)
