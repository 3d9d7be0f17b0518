"""How a base model fits a machine before there is data: the formula for the leanest run that one would still want."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.catalog.methods import AUTOMATIC, MethodName, find_method
from engine.hardware.devices import Hardware
from engine.hardware.readings import known
from engine.planning.capabilities import Surroundings, is_allowed, quantization_of
from engine.planning.derive import choose_device, choose_precision
from engine.planning.memory import Setup, estimate_memory
from engine.planning.plan import Machine, MemoryEstimate
from engine.planning.profiles import ModelProfile
from engine.planning.search import optimizers_for

LOOK_LENGTH = 512
"""Tokens of a row as they are usual; the plan takes the real ones."""
SHORT_LENGTH = 64
"""Where rows of this length are too large, no data would fit."""
LOOK_ANSWER = 64


@dataclass(frozen=True, slots=True)
class FirstLook:
    """What probably fits.

    Attributes:
        method: The method that trains most weights of those that fit; None when none does.
        memory: What it needs; when none fits, what the leanest one needs at its shortest rows.
        free_bytes: What the device has free.
    """

    method: MethodName | None
    memory: MemoryEstimate
    free_bytes: int

    @property
    def hopeless(self) -> bool:
        """Whether it does not fit even where the formula is too high and the rows are short."""
        return self.method is None and self.memory.low_bytes > self.free_bytes


def look(model: ModelProfile, hardware: Hardware) -> FirstLook | None:
    """Return which method probably fits, one row of 512 tokens at a time; None where free memory is not known.

    Args:
        model: Facts of the base model.
        hardware: The machine; the device is the one that a plan would take.
    """
    free_bytes, where = hardware.training_memory()
    if free_bytes is None:
        return None

    def need(setup: Setup) -> MemoryEstimate:
        return estimate_memory(model, setup, available_bytes=free_bytes, where=where)

    for setup in _setups(model, hardware, LOOK_LENGTH):
        if (memory := need(setup)).high_bytes <= free_bytes:
            return FirstLook(setup.method, memory, free_bytes)
    leanest = min(map(need, _setups(model, hardware, SHORT_LENGTH)), key=lambda memory: memory.low_bytes)
    return FirstLook(None, leanest, free_bytes)


def _setups(model: ModelProfile, hardware: Hardware, length: int) -> Iterator[Setup]:
    """Yield the leanest setups of each method, the method that trains most first."""
    device, gpu = choose_device(hardware)
    machine = Machine(
        compute_capability=None if gpu is None else known(gpu.compute_capability), libraries=dict(hardware.libraries)
    )
    where = Surroundings(device, machine, model)
    precision, _ = choose_precision(hardware, where, model)
    for facts in map(find_method, AUTOMATIC):
        method, quantizing = facts.name, quantization_of(facts)
        if quantizing is not None and not is_allowed(quantizing, where):
            continue
        for optimizer in optimizers_for(method, device.kind):
            if not is_allowed(optimizer, where):
                continue
            for recomputing in (False, True):
                yield Setup(
                    device=device.kind,
                    method=method,
                    precision=precision,
                    micro_batch=1,
                    max_length=min(length, model.context_length),
                    optimizer=optimizer,
                    activation_checkpointing=recomputing,
                    generate=LOOK_ANSWER,
                    merge=facts.mergeable,
                )
