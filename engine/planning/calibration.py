"""What this machine has taught us: measured memory and speed that narrow later estimates. Plain data, no disk."""

import math
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from engine.hardware.devices import Hardware
from engine.hardware.readings import known
from engine.planning.profiles import Profile

if TYPE_CHECKING:
    from engine.planning.plan import Device  # it carries a calibration itself

KEY_PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes")
"""Distributions whose version decides on memory and speed."""
UNCALIBRATED_SPREAD = 0.08
"""How far a rehearsal may be off on a machine that nothing was measured on."""
LEAST_SPREAD = 0.03
"""How far it may be off however much was measured: batches differ, and so does what the allocator did before."""
_TRIMMED_FROM = 20


class MachineKey(Profile):
    """What a measurement holds for: another device, driver or library version is another machine.

    Attributes:
        device: Name of the GPU, or of the processor.
        driver: Version of the driver; empty on a processor.
        packages: `{distribution: version}` of torch, transformers, peft, trl and bitsandbytes.
    """

    device: str
    driver: str = ""
    packages: dict[str, str] = Field(default_factory=dict)


class Calibration(Profile):
    """Measurements on one machine, reduced to what an estimate needs.

    Attributes:
        key: The machine.
        context_bytes: Memory of the device that a process holds besides tensors; None when never measured.
        memory_ratios: Measured over rehearsed peaks of tensors, one per run or probe, newest last. They say how wrong
            rehearsals are here, and nothing of the formula.
        flops: `{precision: floating point operations per second reached in training}` of a wide model
            (`duration.reached_flops`), the newest measurement.
    """

    key: MachineKey
    context_bytes: int | None = None
    memory_ratios: list[float] = Field(default_factory=list)
    flops: dict[str, float] = Field(default_factory=dict)


def machine_key(hardware: Hardware, device: "Device") -> MachineKey:
    """Return what measurements on a device of this machine hold for."""
    return key_of(device, known(hardware.driver), known(hardware.host.cpu_name), hardware.libraries)


def key_of(device: "Device", driver: str | None, cpu_name: str | None, libraries: Mapping[str, str]) -> MachineKey:
    """Return the key from the few readings that it is made of.

    Args:
        device: Where the run computes.
        driver: Version of the NVIDIA driver; None when unknown.
        cpu_name: Name of the processor; None when unknown.
        libraries: `{distribution: version}`.
    """
    packages = {name: libraries[name] for name in KEY_PACKAGES if name in libraries}
    if device.kind == "cpu":
        return MachineKey(device=cpu_name or device.name, packages=packages)
    return MachineKey(device=device.name, driver=driver or "", packages=packages)


def ratio_band(calibration: Calibration | None) -> tuple[float, float]:
    """Return the factors between which the truth lies around a rehearsed peak of tensors, `(low, high)`.

    Without a measurement 8 % to both sides. With n of them: all that was measured (without the outermost twentieth at
    both ends from 20 on), and beyond it 8 % over the root of n, never less than 3 %: one ratio says where the truth
    lies, only several say how widely it scatters. The upper end never falls below what was rehearsed: a run that drew
    shorter rows than were rehearsed stays below it too, and that is true of its rows and not of the machine.
    """
    ratios = sorted(calibration.memory_ratios) if calibration is not None else []
    if not ratios:
        return 1 - UNCALIBRATED_SPREAD, 1 + UNCALIBRATED_SPREAD
    trimmed = len(ratios) // _TRIMMED_FROM
    kept = ratios[trimmed : len(ratios) - trimmed]
    margin = max(LEAST_SPREAD, UNCALIBRATED_SPREAD / math.sqrt(len(ratios)))
    return kept[0] * (1 - margin), max(1.0, kept[-1]) * (1 + margin)


def middle_ratio(calibration: Calibration | None) -> float:
    """Return the factor to expect on a rehearsed peak of tensors: the median of what was measured, 1 without any."""
    if calibration is None or not calibration.memory_ratios:
        return 1.0
    return statistics.median(calibration.memory_ratios)
