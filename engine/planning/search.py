"""Find the settings that fit the memory: the most capable method, the largest micro-batch, recomputation last."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from engine.planning.memory import Method, Optimizer, Setup, estimate_memory
from engine.planning.plan import MemoryEstimate
from engine.planning.profiles import ModelProfile

SMALL_PARAMS = 150_000_000
"""Models up to this size are trained in full by default, where that fits with room to spare."""
COMFORTABLE = 0.7
MAX_GPU_TOKENS = 32_768
MAX_CPU_TOKENS = 8_192
"""Tokens of a micro-batch beyond which nothing gets faster."""
MAX_CPU_ROWS = 16


@dataclass(frozen=True, slots=True)
class Space:
    """What the search may choose from; a single entry means that somebody decided.

    Attributes:
        methods: Methods to try, best first.
        micro_batches: Micro-batches to try, largest first.
        checkpointing: Whether to recompute activations, preferred first.
        optimizers: Optimizers to try; None takes those that suit the method.
        available_bytes: Memory to fit in; None when unknown, and then everything fits.
        demand_comfort: Take full fine-tuning only with room to spare.
    """

    model: ModelProfile
    device: Literal["cuda", "cpu"]
    where: str
    precision: str
    max_length: int
    rank: int
    targets: str | Sequence[str]
    methods: tuple[Method, ...]
    micro_batches: tuple[int, ...]
    checkpointing: tuple[bool, ...] = (False, True)
    optimizers: tuple[Optimizer, ...] | None = None
    available_bytes: int | None = None
    packed: bool = False
    demand_comfort: bool = False

    def changed(self, **changes: object) -> "Space":
        """Return a copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings taken, their memory, and whether that fits."""

    setup: Setup
    memory: MemoryEstimate
    fits: bool


def find_setup(space: Space) -> Choice:
    """Return the first setup that fits; where none does, the smallest one of the last method, marked as not fitting."""
    smallest: Choice | None = None
    for setup in _setups(space):
        memory = estimate_memory(space.model, setup, available_bytes=space.available_bytes, where=space.where)
        fits = space.available_bytes is None or memory.high_bytes <= _budget(space, setup)
        choice = Choice(setup, memory, fits)
        if fits:
            return choice
        if smallest is None or memory.high_bytes < smallest.memory.high_bytes:
            smallest = choice
    if smallest is None:
        raise ValueError("the search space is empty")
    return smallest


def _budget(space: Space, setup: Setup) -> float:
    available = space.available_bytes or 0
    return available * COMFORTABLE if space.demand_comfort and setup.method == "full" else available


def _setups(space: Space) -> Iterator[Setup]:
    for method in space.methods:
        for optimizer in space.optimizers or _optimizers(method, space.device):
            for checkpointing in space.checkpointing:
                for micro_batch in space.micro_batches:
                    yield Setup(
                        device=space.device,
                        method=method,
                        precision=space.precision,
                        micro_batch=micro_batch,
                        max_length=space.max_length,
                        optimizer=optimizer,
                        activation_checkpointing=checkpointing,
                        rank=space.rank,
                        targets=space.targets,
                        packed=space.packed,
                    )


def _optimizers(method: Method, device: str) -> tuple[Optimizer, ...]:
    if device == "cpu":
        return ("adamw",)
    match method:
        case "qlora":
            return ("paged_adamw_8bit",)
        case "full":
            return ("adamw", "paged_adamw_8bit")
        case _:
            return ("adamw",)


def micro_batches(effective_batch: int, max_length: int, device: str) -> tuple[int, ...]:
    """Return the divisors of the effective batch worth trying, largest first.

    Args:
        effective_batch: Rows per optimizer step.
        max_length: Tokens of the longest row.
        device: `cuda` or `cpu`; a processor gains nothing from large micro-batches.
    """
    tokens = MAX_CPU_TOKENS if device == "cpu" else MAX_GPU_TOKENS
    rows = max(1, tokens // max_length)
    rows = min(rows, MAX_CPU_ROWS) if device == "cpu" else rows
    return tuple(size for size in range(min(rows, effective_batch), 0, -1) if effective_batch % size == 0)
