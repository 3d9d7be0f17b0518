"""Find the settings that fit the memory: the most capable method, then what is fastest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.catalog.methods import MethodName, find_method
from engine.planning.calibration import Calibration
from engine.planning.depth import Depth
from engine.planning.duration import Rate, Work, step_seconds
from engine.planning.memory import Attention, Optimizer, Setup, Strategy, estimate_memory
from engine.planning.plan import MemoryEstimate
from engine.planning.profiles import ModelProfile
from engine.planning.sides import Sides
from engine.planning.virtual_prompt import DEFAULT_TOKENS

SMALL_PARAMS = 150_000_000
"""Models up to this size are trained in full by default, where that fits with room to spare."""
COMFORTABLE = 0.7
MAX_GPU_TOKENS = 32_768
MAX_CPU_TOKENS = 8_192
"""Tokens of a micro-batch beyond which nothing gets faster."""
MAX_CPU_ROWS = 16
ESTIMATED_SPREAD = 1.25
"""How far the longest row may be above what was estimated from its characters."""
_WORTH_RECOMPUTING = 0.9
"""Recomputation is taken for its larger micro-batches where it saves more than a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Space:
    """What the search may choose from; a single entry means that somebody decided.

    Attributes:
        methods: Methods to try, best first.
        micro_batch: Rows per GPU at once, when somebody set them.
        checkpointing: Whether to recompute activations, preferred first.
        optimizers: Optimizers to try; None takes those that suit the method.
        available_bytes: Memory to fit in, per GPU; None when unknown, and then everything fits.
        demand_comfort: Take full fine-tuning only with room to spare.
        dropout: Share of adapter inputs that are dropped.
        generate: Longest answer generated in an evaluation, in tokens; 0 when nothing is generated.
        examples: Most tokens that the few-shot baseline puts in front of a question; 0 without it.
        written: Tokens of a row that the model writes itself while it learns; 0 where it only reads.
        reference: A copy is kept of the weights that learn, as they were at the start.
        judge_bytes: Size of a reward model that the run asks.
        merge: An adapter is merged at the end.
        sides: Sequences of a row, and what is read beside them.
        depth: Where in the model it trains, for methods that train a part of it.
        variant: How the matrices of LoRA are scaled and started.
        rank_pattern: Ranks of layers whose name ends so, where they differ.
        virtual_tokens: Learned tokens in front of every text, for methods that add them.
        encoder_width: Inner width of the network that makes them; 0 takes the default.
        new_tokens: Rows that are made for new tokens, for methods by which they alone learn of their matrix.
        num_gpus: GPUs that share the work; divides the effective batch.
        memory_factor: How far a deeper look at this plan was above the formula; 1 when nobody looked.
        high_factor: The same of the upper end of the range.
    """

    model: ModelProfile
    device: Literal["cuda", "cpu"]
    where: str
    precision: str
    max_length: int
    rank: int
    targets: str | tuple[str, ...]
    methods: tuple[MethodName, ...]
    work: Work
    rate: Rate
    micro_batch: int | None = None
    checkpointing: tuple[bool, ...] = (False, True)
    optimizers: tuple[Optimizer, ...] | None = None
    available_bytes: int | None = None
    packed: bool = False
    demand_comfort: bool = False
    attention: Attention = "sdpa"
    dropout: float = 0.0
    generate: int = 0
    examples: int = 0
    written: int = 0
    reference: bool = False
    judge_bytes: int = 0
    merge: bool = True
    sides: Sides = Sides()
    depth: Depth = Depth()
    variant: str = "plain"
    rank_pattern: tuple[tuple[str, int], ...] = ()
    virtual_tokens: int = DEFAULT_TOKENS
    encoder_width: int = 0
    new_tokens: int = 0
    strategy: Strategy = "single"
    num_gpus: int = 1
    smoothed: bool = False
    calibration: Calibration | None = None
    memory_factor: float = 1.0
    high_factor: float = 1.0
    _known: dict[tuple[str, Setup, int | None], MemoryEstimate] = field(default_factory=dict, repr=False, compare=False)

    def changed(self, **changes: object) -> "Space":
        """Return a copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def micro_batches(self) -> tuple[int, ...]:
        """Return the micro-batches to try, largest first."""
        if self.micro_batch is not None:
            return (self.micro_batch,)
        return micro_batches(
            self.work.effective_batch // self.num_gpus, self.sides.count * self.max_length, self.device
        )

    def memory_of(self, setup: Setup) -> MemoryEstimate:
        """Return what a setup needs, corrected by what a deeper look has shown.

        The few-shot baseline counts where it is what needs most; below that the plan is the same with and without it.
        """
        setup = self._with_rows_of_the_data(setup)
        if setup.examples:
            without, whole = (self._memory_of(one) for one in (setup.changed(examples=0), setup))
            return whole if whole.high_bytes > without.high_bytes else without
        return self._memory_of(setup)

    def _with_rows_of_the_data(self, setup: Setup) -> Setup:
        """Return the setup with rows as long as the data's longest: a limit above that costs nothing."""
        lengths = self.work.data.lengths
        if setup.packed or self.work.text or lengths is None or not lengths.longest:
            return setup
        longest = math.ceil(lengths.longest * (ESTIMATED_SPREAD if lengths.estimated else 1)) + setup.written
        return setup.changed(max_length=min(setup.max_length, -(-longest // 8) * 8))

    def _memory_of(self, setup: Setup) -> MemoryEstimate:
        # Tables, ways and lengths ask for the same points again and again.
        key = self.model.base, setup, self.available_bytes
        if key not in self._known:
            self._known[key] = estimate_memory(
                self.model,
                setup,
                available_bytes=self.available_bytes,
                where=self.where,
                calibration=self.calibration,
            )
        memory = self._known[key]
        looked = (self.memory_factor, self.high_factor) != (1.0, 1.0)
        return scaled(memory, self.memory_factor, self.high_factor) if looked else memory

    def step_seconds(self, setup: Setup) -> float:
        """Return the expected time of an optimizer step."""
        return step_seconds(self.model, setup, self.work, self.rate)


def scaled(memory: MemoryEstimate, factor: float, high_factor: float = 1.0) -> MemoryEstimate:
    """Return an estimate moved by a factor; what must fit moves up with it, never down.

    One look deeper at one setup says where the formula is off, and not that another setup is safe. Its range is another
    one too: what is promised of another setup must hold when that is looked at as deep.

    Args:
        memory: The formula's.
        factor: What was found over what the formula expected.
        high_factor: The same of the upper end.
    """
    parts = {name: round(size * factor) for name, size in memory.components.items()}
    return memory.model_copy(
        update={
            "components": parts,
            "expected_bytes": sum(parts.values()),
            "low_bytes": round(memory.low_bytes * factor),
            "high_bytes": round(memory.high_bytes * max(1.0, factor, high_factor)),
        }
    )


@dataclass(frozen=True, slots=True)
class Choice:
    """The settings taken, their memory, whether that fits, and the time of one optimizer step."""

    setup: Setup
    memory: MemoryEstimate
    fits: bool
    step_s: float


def find_setup(space: Space) -> Choice:
    """Return the fastest setup of the first method and optimizer that fit.

    Where nothing fits it is the one that needs least, marked as not fitting.
    """
    for method in space.methods:
        for optimizer in space.optimizers or optimizers_for(method, space.device):
            fitting = [found for on in _recomputing(space, method) if (found := _largest(space, method, optimizer, on))]
            if fitting:
                return _fastest(fitting)
    return _leanest(space)


def _recomputing(space: Space, method: MethodName) -> tuple[bool, ...]:
    """Return whether a method may recompute activations, preferred first; some cannot."""
    return space.checkpointing if find_method(method).recomputes else (False,)


def _fastest(choices: Sequence[Choice]) -> Choice:
    """Return the choice with the shortest step; an earlier one that is hardly slower is preferred."""
    best = choices[0]
    for choice in choices[1:]:
        if choice.step_s < best.step_s * _WORTH_RECOMPUTING:
            best = choice
    return best


def _largest(space: Space, method: MethodName, optimizer: Optimizer, checkpointing: bool) -> Choice | None:
    """Return the largest micro-batch that fits, found by halving: memory grows with it. None when none fits."""
    sizes = space.micro_batches
    first, last, best = 0, len(sizes) - 1, None
    while first <= last:
        middle = (first + last) // 2 if best or first else first
        choice = _choice(space, space_setup(space, method, optimizer, checkpointing, sizes[middle]))
        if choice.fits:
            best, last = choice, middle - 1
        else:
            first = middle + 1
    return best


def _leanest(space: Space) -> Choice:
    least = [
        _choice(space, space_setup(space, method, optimizer, checkpointing, space.micro_batches[-1]))
        for method in space.methods
        for optimizer in space.optimizers or optimizers_for(method, space.device)
        for checkpointing in _recomputing(space, method)
    ]
    return min(least, key=lambda choice: choice.memory.high_bytes)


def _choice(space: Space, setup: Setup) -> Choice:
    memory = space.memory_of(setup)
    fits = space.available_bytes is None or memory.high_bytes <= _budget(space, setup)
    return Choice(setup, memory, fits, space.step_seconds(setup))


def _budget(space: Space, setup: Setup) -> float:
    available = space.available_bytes or 0
    return available * COMFORTABLE if space.demand_comfort and setup.facts.trains_whole else available


def space_setup(space: Space, method: MethodName, optimizer: Optimizer, checkpointing: bool, micro_batch: int) -> Setup:
    """Return one point of the space."""
    facts = find_method(method)
    low_rank = facts.learns == "low-rank"
    return Setup(
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
        accumulates=space.work.effective_batch > micro_batch * space.num_gpus,
        attention=space.attention,
        dropout=space.dropout if facts.makes_adapter else 0.0,
        generate=space.generate,
        examples=space.examples,
        written=space.written,
        reference=space.reference,
        judge_bytes=space.judge_bytes,
        merge=space.merge and facts.mergeable,
        sides=space.sides.count,
        beside=space.sides.beside,
        depth=space.depth,
        variant=space.variant if low_rank else "plain",
        rank_pattern=space.rank_pattern if low_rank else (),
        virtual_tokens=space.virtual_tokens if facts.adds_tokens else 0,
        encoder_width=space.encoder_width if facts.adds_tokens else 0,
        new_tokens=space.new_tokens if low_rank else 0,
        num_gpus=space.num_gpus,
        strategy=space.strategy,
        smoothed=space.smoothed,
    )


def optimizers_for(method: MethodName, device: str) -> tuple[Optimizer, ...]:
    """Return the optimizers that suit a method, preferred first."""
    if device == "cpu":
        return ("adamw",)
    facts = find_method(method)
    if facts.bits == 4:
        return ("paged_adamw_8bit",)
    return ("adamw", "paged_adamw_8bit") if facts.trains_whole else ("adamw",)


def micro_batches(effective_batch: int, max_length: int, device: str) -> tuple[int, ...]:
    """Return the divisors of the effective batch worth trying, largest first.

    Args:
        effective_batch: Rows per optimizer step and GPU.
        max_length: Tokens of the longest row, of all its sequences together.
        device: `cuda` or `cpu`; a processor gains nothing from large micro-batches.
    """
    tokens = MAX_CPU_TOKENS if device == "cpu" else MAX_GPU_TOKENS
    rows = max(1, tokens // max_length)
    rows = min(rows, MAX_CPU_ROWS) if device == "cpu" else rows
    return tuple(size for size in range(min(rows, effective_batch), 0, -1) if effective_batch % size == 0)


def shared_gpus(num_gpus: int, effective_batch: int) -> int:
    """Return the most GPUs that divide the effective batch evenly, so that the product never changes."""
    return next(count for count in range(max(1, num_gpus), 0, -1) if effective_batch % count == 0)
