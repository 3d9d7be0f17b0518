"""What this machine has taught us: measured memory and speed that narrow later estimates. Plain data, no disk."""

from pydantic import Field

from engine.planning.profiles import Profile


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
        memory_ratios: Measured over predicted peaks of tensors, one per run or probe, newest last.
        flops: `{precision: floating point operations per second reached in training}`, the newest measurement.
    """

    key: MachineKey
    context_bytes: int | None = None
    memory_ratios: list[float] = Field(default_factory=list)
    flops: dict[str, float] = Field(default_factory=dict)
