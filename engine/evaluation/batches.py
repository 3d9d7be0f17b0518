"""Cut rows into batches that fit where training fitted, and cut them smaller when they do not."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Row = TypeVar("Row")
Result = TypeVar("Result")
MAX_ROWS_PER_BATCH = 64


def by_length(rows: Sequence[Row], length: Callable[[Row], int], max_tokens: int) -> Iterator[list[Row]]:
    """Yield batches of rows of similar length, the longest first, so that a lack of memory shows at once.

    Args:
        rows: Rows in any order.
        length: Tokens that one row occupies.
        max_tokens: Most padded tokens in one batch; a longer row is a batch of its own.
    """
    batch: list[Row] = []
    longest = 0
    for row in sorted(rows, key=length, reverse=True):
        longest = longest if batch else max(1, length(row))
        if batch and (len(batch) == MAX_ROWS_PER_BATCH or (len(batch) + 1) * longest > max_tokens):
            yield batch
            batch, longest = [], max(1, length(row))
        batch.append(row)
    if batch:
        yield batch


def with_halving(batch: Sequence[Row], work: Callable[[Sequence[Row]], list[Result]]) -> list[Result]:
    """Run work on a batch; when the device runs out of memory, run it on halves, down to single rows.

    Results do not depend on the cut beyond rounding, as rows are independent of each other.

    Raises:
        torch.OutOfMemoryError: A single row does not fit.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside of the handler: the traceback held the tensors of the failed attempt.
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return with_halving(batch[:half], work) + with_halving(batch[half:], work)
