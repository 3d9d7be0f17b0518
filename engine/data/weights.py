"""Weights of sources: training rows of one file used more or less often than they are there, drawn with the seed.

Weights act last, on training rows alone: repeated earlier, rows would be dropped as duplicates or stand on both sides
of the split, and evaluation would no longer see the data as it is.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.data.row_store import ids_of
from engine.data.rows import Row, Tally
from engine.data.sources import SourceFile
from engine.planning.profiles import Finding
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

_DRAW_BITS = 64


def weigh_rows(rows: Sequence[Row], weights: Mapping[str, float], seed: int, dropped: Tally) -> Iterable[Row]:
    """Return the rows, each as often as the weight of its file says; the rows given where all weights are 1.

    A weight of 2.5 uses each row twice, and a drawn half of them a third time. Whether a row is drawn depends on the
    seed and on the row's own id, so that other files and their order change nothing.

    Args:
        rows: Training rows.
        weights: Weight of each file by its name; files without one count once.
        seed: The run's seed.
        dropped: Rows that are not drawn are counted here as `not_drawn`.

    Raises:
        ProblemError: No row is left.
    """
    if all(weights.get(name, 1.0) == 1.0 for name in weights):
        return rows
    copies = array("H")
    for row_id in ids_of(rows):
        copies.append(_copies(row_id, weights.get(_file_of(row_id), 1.0), seed))
        if not copies[-1]:
            dropped.add("not_drawn", row_id)
    if not any(copies):
        message = f"The weights of the sources leave none of the {len(rows)} training rows."
        raise ProblemError(Problem("data.weights_too_small", message, "Raise them.", path="data.source"))
    return _repeated(rows, copies)


def _repeated(rows: Iterable[Row], copies: Iterable[int]) -> Iterator[Row]:
    for row, count in zip(rows, copies, strict=True):
        for number in range(1, count + 1):
            yield row if number == 1 else {**row, "id": f"{row['id']}*{number}"}


def weight_notes(files: Sequence[SourceFile], rows: Sequence[Row], seed: int) -> list[Finding]:
    """Return one note for each file whose weight is not 1, with the numbers of rows before and after."""
    weights = {file.name: file.weight for file in files if file.weight != 1.0}
    there: Counter[str] = Counter()
    used: Counter[str] = Counter()
    for row_id in ids_of(rows) if weights else ():
        if (name := _file_of(row_id)) in weights:
            there[name] += 1
            used[name] += _copies(row_id, weights[name], seed)
    return [
        Finding(
            code="data.weight",
            message=clean_line(
                f"{name} counts {weight:g} times: its {there[name]} training rows are used {used[name]} times."
            ),
            path="data.source",
            severity="note",
        )
        for name, weight in weights.items()
    ]


def _file_of(row_id: str) -> str:
    return row_id.rpartition(":")[0]


def _copies(row_id: str, weight: float, seed: int) -> int:
    whole = int(weight)
    digest = hashlib.blake2b(f"{seed} {row_id}".encode("utf-8", "surrogatepass"), digest_size=_DRAW_BITS // 8).digest()
    return whole + (int.from_bytes(digest) / 2**_DRAW_BITS < weight - whole)
