"""How many GPUs share a run: each holds the whole model and computes its part of every step (DDP)."""

from collections.abc import Iterator, Sequence

from engine.hardware.devices import Gpu, Hardware
from engine.hardware.readings import known
from engine.planning.plan import Machine
from engine.planning.profiles import Finding
from engine.planning.search import Choice, Space, find_setup
from engine.recipe.schema import Recipe
from engine.text import human_duration

START_S = 60.0
"""What the other processes take to start, load and meet; sharing that saves less is not worth it. Assumed."""
_WORTH_SHARING = 0.8
EACH_GPU = "each GPU"


def gpus_alike(hardware: Hardware, gpu: Gpu | None) -> list[Gpu]:
    """Return the GPUs that can share a run with the one that a plan takes, that one first, then by free memory.

    A step waits for its slowest part, so that only GPUs of one kind share it. MIG instances cannot: a process of CUDA
    sees one of them at most.
    """
    if gpu is None or gpu.instance is not None or known(gpu.free_bytes) is None:
        return [] if gpu is None else [gpu]
    alike = [
        one
        for one in hardware.usable_gpus()
        if one is not gpu and one.instance is None and one.name == gpu.name and known(one.free_bytes) is not None
    ]
    return [gpu, *sorted(alike, key=lambda one: (-(known(one.free_bytes) or 0), one.index))]


def share_work(space: Space, choice: Choice, free: Sequence[int], *, wanted: int | None) -> tuple[Space, Choice]:
    """Return the space and the choice with the number of GPUs that is fastest, or the one that somebody wanted.

    Args:
        space: What one GPU may choose from.
        choice: What one GPU takes; the method stays.
        free: Free bytes of the GPUs alike, in the order in which they are taken.
        wanted: Number of GPUs that somebody set.
    """
    counts = range(len(free), 1, -1) if wanted is None else [wanted]
    best = space, choice
    for count in counts:
        if not 1 < count <= len(free) or not divides(space, count):
            continue
        shared = space.changed(
            strategy="ddp",
            num_gpus=count,
            methods=(choice.setup.method,),
            available_bytes=min(free[:count]),
            where=EACH_GPU,
            demand_comfort=False,
        )
        found = find_setup(shared)
        if wanted is not None or (found.fits and choice.fits and found.step_s < best[1].step_s):
            best = shared, found
    return best if wanted is not None or _worth_it(space, choice, best[1]) else (space, choice)


def divides(space: Space, num_gpus: int) -> bool:
    """Return whether the effective batch can be cut evenly between so many GPUs."""
    return space.work.effective_batch % ((space.micro_batch or 1) * num_gpus) == 0


def sharing_reason(machine: Machine, alone: Choice, taken: Choice, space: Space) -> str:
    """Return why a plan takes that number of GPUs."""
    if taken.setup.num_gpus > 1:
        times = [human_duration(_total_seconds(space, choice)) for choice in (taken, alone)]
        return f"{times[0]} instead of {times[1]} with one"
    if len(machine.alike_free_bytes) > 1:
        return "sharing the work would save less than it takes to start"
    return "there is one GPU" if machine.num_gpus == 1 else "no other GPU like it" if machine.num_gpus else "no GPU"


def sharing_findings(recipe: Recipe, machine: Machine) -> Iterator[Finding]:
    """Yield what stands against the number of GPUs that somebody set."""
    wanted, training = recipe.training.num_gpus or 1, recipe.training
    alike = len(machine.alike_free_bytes)
    if wanted > max(1, alike):
        have = "no GPU" if not machine.num_gpus else "one GPU" if alike < 2 else f"{alike} GPUs of one kind"
        yield Finding(
            severity="error",
            code="plan.num_gpus",
            message=f"The run is to use {wanted} GPUs; here is {have} that it could use.",
            fix=f"Set training.num_gpus to {max(1, alike)}, or leave it to the plan.",
            path="training.num_gpus",
        )
    elif training.effective_batch % ((training.micro_batch or 1) * wanted):
        yield Finding(
            severity="error",
            code="plan.num_gpus",
            message=f"An effective batch of {training.effective_batch} cannot be cut evenly for {wanted} GPUs.",
            fix=f"Set training.effective_batch to a multiple of {wanted}, or training.num_gpus to a divisor of it.",
            path="training.num_gpus",
        )


def _worth_it(space: Space, alone: Choice, shared: Choice) -> bool:
    saved_s = _total_seconds(space, alone) - _total_seconds(space, shared)
    return shared.step_s < _WORTH_SHARING * alone.step_s and saved_s > START_S


def _total_seconds(space: Space, choice: Choice) -> float:
    return choice.step_s * space.work.total_steps(space.max_length, packing=space.packed)
