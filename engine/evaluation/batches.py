"""Cut rows into batches that fit where training fitted, and cut them smaller when they do not."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from engine.out_of_memory import give_back_memory, is_out_of_memory
from engine.planning.evaluation_cut import MAX_ROWS

Row = TypeVar("Row")
Result = TypeVar("Result")


def in_batches(
    rows: Sequence[Row],
    length: Callable[[Row], int],
    max_tokens: int,
    work: Callable[[Sequence[Row]], list[Result]],
    on_smaller: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[list[Row], list[Result]]]:
    """Do work batch by batch, the longest rows first, and yield each batch with its results.

    When the memory runs out, it is given back and the same rows are taken again, half as many at a time, down to single
    rows; what did not fit once is not tried again with the rows that follow. Results do not depend on the cut beyond
    rounding, as rows are independent of each other.

    Args:
        rows: Rows in any order.
        length: Tokens that one row occupies.
        max_tokens: Most tokens of one batch, each row as long as the longest; a longer row is a batch of its own.
        work: Returns one result for each row of a batch.
        on_smaller: Told how many rows did not fit and how many are tried instead.

    Raises:
        Exception: That of `work`; a lack of memory only when a single row does not fit twice in a row.
    """
    waiting = sorted(rows, key=length, reverse=True)
    while waiting:
        longest = max(1, length(waiting[0]))
        num_rows = min(len(waiting), MAX_ROWS, max(1, max_tokens // longest))
        batch = waiting[:num_rows]
        results = _unless_out_of_memory(batch, work)
        if results is None:
            # Out here nothing refers to the tensors of the failed attempt.
            give_back_memory()
            if num_rows > 1:
                max_tokens = longest * (num_rows // 2)
                if on_smaller is not None:
                    on_smaller(num_rows, num_rows // 2)
                continue
            results = work(batch)
        del waiting[:num_rows]
        yield batch, results


def _unless_out_of_memory(batch: Sequence[Row], work: Callable[[Sequence[Row]], list[Result]]) -> list[Result] | None:
    try:
        return work(batch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None
