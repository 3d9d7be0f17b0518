"""The rows of a run directory: written by the first attempt, read by every later one, also on another machine.

They are lines of JSON, so that anything can read them, and are never all in memory: where each line begins is found
once, eight bytes a row, and a row is read when it is asked for.
"""

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from engine.data.pipeline import PreparedData, prepare
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rows import Row
from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.runs.disk import disk_problem, private_folder, write_parts_atomically

_TOUCHED_BYTES = 32 << 20
_LINES_TOGETHER_BYTES = 1 << 20


class RowLines(Sequence[Row]):
    """The rows of a JSONL file of ours, each read when it is asked for.

    Args:
        path: The file; blank lines are passed over.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            empty = not file.read(1)
            self._memory = mmap.mmap(-1, 1) if empty else mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self._starts = array("q") if empty else _line_starts(self._memory)
        self._places: Sequence[int] = range(len(self._starts))
        self._touched = [0]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> "RowLines": ...
    def __getitem__(self, place: int | slice) -> "Row | RowLines":
        if isinstance(place, int):
            return self._row(self._places[place])
        view = RowLines.__new__(RowLines)
        view._memory, view._starts, view._touched = self._memory, self._starts, self._touched
        view._places = self._places[place]
        return view

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._places)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str | bytes):
            return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _row(self, number: int) -> Row:
        start = self._starts[number]
        end = self._memory.find(b"\n", start)
        line = self._memory[start : end if end >= 0 else len(self._memory)]
        self._touched[0] += len(line)
        if self._touched[0] > _TOUCHED_BYTES:
            # Pages that were read count as memory of the process until they are given back.
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._touched[0] = 0
        row: Row = json.loads(line)
        return row


def _line_starts(memory: mmap.mmap) -> "array[int]":
    starts = array("q")
    start, given_back = 0, 0
    while start < len(memory):
        end = memory.find(b"\n", start)
        end = len(memory) if end < 0 else end
        if memory[start:end].strip():
            starts.append(start)
        start = end + 1
        if start - given_back > _TOUCHED_BYTES:
            memory.madvise(mmap.MADV_DONTNEED)
            given_back = start
    return starts


@dataclass(frozen=True, slots=True)
class SavedRows:
    """The rows of a run.

    Attributes:
        train: Rows to learn from.
        held_out: Rows to be judged on.
        test: Rows put aside for a last evaluation.
        dropped: `{reason: count}` of rows that are not used.
        train_sha256: Hash of `data/train.jsonl`.
    """

    train: RowLines
    held_out: RowLines
    test: Sequence[Row]
    dropped: dict[str, int]
    train_sha256: str


def load_rows(run: RunDirectory, plan: Plan, *, cache: Path | None = None, watch: WorkWatch = NOBODY) -> SavedRows:
    """Return the rows of a run; from the run directory once they are there.

    The first attempt saves them, so that a later one, also on another machine, works on the same rows.

    Args:
        run: The run directory.
        plan: Its plan.
        cache: The cache folder of this person, which has the rows where the plan was made with them.
        watch: Told how far the work is, and asked whether to go on.

    Raises:
        ProblemError: The data cannot be used, the disk is full, or the data has changed since the plan was made: steps,
            memory and the recorded hash would be of other rows.
        ReadingStoppedError: The watch asked for a stop.
    """
    dropped = plan.data.dropped
    if not (run.train_file.exists() and run.held_out_file.exists()):
        data = prepare(plan.recipe, cache=cache, watch=watch)
        _refuse_changed(plan, data)
        _save(run, data, watch)
        dropped = data.profile.dropped
    return SavedRows(
        train=RowLines(run.train_file),
        held_out=RowLines(run.held_out_file),
        test=RowLines(run.test_file) if run.test_file.exists() else (),
        dropped=dict(dropped),
        train_sha256=_hash_of(run.train_file),
    )


def _refuse_changed(plan: Plan, data: PreparedData) -> None:
    if plan.data.sha256 in ("", data.profile.sha256):
        return
    raise ProblemError(
        Problem(
            "data.changed",
            "The data is not what it was when the plan was made.",
            "Start the run again, so that the plan is made for the data as it is now.",
            path="data.source",
        )
    )


def _save(run: RunDirectory, data: PreparedData, watch: WorkWatch) -> None:
    """Write the rows; those to learn from last, because they say that all are there."""
    private_folder(run.data_folder)
    sides = [(run.test_file, data.test_rows)] if data.test_rows else []
    for path, rows in (*sides, (run.held_out_file, data.held_out_rows), (run.train_file, data.train_rows)):
        stage = f"Writing data/{path.name}"
        try:
            write_parts_atomically(path, _joined(watch.counted(stage, rows.texts(), len(rows))))
        except OSError as error:
            raise ProblemError(disk_problem(error, path, "write the rows of the run")) from error


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines some at a time, because a call of the system for each takes longer than the writing."""
    some = bytearray()
    for line in lines:
        some += line
        some += b"\n"
        if len(some) > _LINES_TOGETHER_BYTES:
            yield bytes(some)
            some.clear()
    yield bytes(some)


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
