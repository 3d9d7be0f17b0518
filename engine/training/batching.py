"""How an optimizer step is cut up."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Batching:
    """Changed by recovery, which leaves the effective batch alone: it is the product of the three.

    Attributes:
        micro_batch: Rows in memory at once, on each GPU.
        accumulation: Micro-batches of one GPU in one step.
        num_gpus: GPUs that share a step.
    """

    micro_batch: int
    accumulation: int
    num_gpus: int = 1


def halved(batching: Batching, effective_batch: int) -> Batching:
    """Return at most half the micro-batch, with the accumulation that leaves the effective batch as it is."""
    half = max(1, batching.micro_batch // 2)
    rows = effective_batch // batching.num_gpus if effective_batch % batching.num_gpus == 0 else effective_batch
    micro_batch = next((size for size in range(half, 0, -1) if rows % size == 0), 1)
    return _with_accumulation(replace(batching, micro_batch=micro_batch), effective_batch)


def shared_by(batching: Batching, num_gpus: int, effective_batch: int) -> Batching:
    """Return the same micro-batch with another number of GPUs and the accumulation that follows from it."""
    return _with_accumulation(replace(batching, num_gpus=num_gpus), effective_batch)


def _with_accumulation(batching: Batching, effective_batch: int) -> Batching:
    # Rounded up: the share of a GPU that gets one micro-batch less is filled up with nothing.
    return replace(batching, accumulation=-(-effective_batch // (batching.micro_batch * batching.num_gpus)))
