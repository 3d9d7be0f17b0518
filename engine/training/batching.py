"""How an optimizer step is cut up."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Batching:
    """Changed by out-of-memory recovery, which leaves the effective batch alone.

    Attributes:
        micro_batch: Rows in memory at once.
        accumulation: Micro-batches in one step.
    """

    micro_batch: int
    accumulation: int
