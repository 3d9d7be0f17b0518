"""How long training takes before anything was measured: arithmetic over an assumed rate, with a wide range."""

from engine.hardware.devices import Gpu, Hardware
from engine.hardware.readings import known
from engine.planning.memory import Setup, linear_params
from engine.planning.plan import Device, Steps, TimeEstimate
from engine.planning.profiles import ModelProfile

CPU_FLOPS_PER_CORE = {"float32": 45e9, "bfloat16": 65e9, "float16": 45e9}
"""Reached in training a 135M Llama on one AVX-512 core: 58e9 in float32, 80e9 under bfloat16 autocast."""
STEP_OVERHEAD_S = {"cpu": 0.03, "cuda": 0.06}
"""Time of a micro-step that does not depend on its size: Python, launches, data."""
# Dense bfloat16 (float16 below 8.0) peak by compute capability; training reaches about a third of it.
_PEAK_FLOPS = {
    (7, 0): 112e12,
    (7, 5): 65e12,
    (8, 0): 312e12,
    (8, 6): 75e12,
    (8, 9): 165e12,
    (9, 0): 989e12,
    (10, 0): 2250e12,
    (10, 3): 2500e12,
    (12, 0): 210e12,
}
_UTILISATION = 0.33
_WIDE_ENOUGH = {"cpu": 512, "cuda": 2048}
"""Narrower models spend their time between the matrix products: a 128-wide one reached a sixth of the rate."""
_UNKNOWN_GPU_FLOPS = 60e12


def assumed_flops(device: Device, hardware: Hardware, gpu: Gpu | None, *, precision: str, hidden_size: int) -> float:
    """Return the floating point operations per second that training is assumed to reach."""
    width = width_share(device.kind, hidden_size)
    if device.kind == "cpu" or gpu is None:
        return CPU_FLOPS_PER_CORE.get(precision, 45e9) * hardware.host.cores * width
    capability = known(gpu.compute_capability)
    peak = _PEAK_FLOPS.get(capability, _UNKNOWN_GPU_FLOPS) if capability else _UNKNOWN_GPU_FLOPS
    # Without tensor cores for float32 (TF32 is off by default) the rate is about a tenth.
    return peak * _UTILISATION * width * (0.12 if precision == "float32" else 1.0)


def width_share(device_kind: str, hidden_size: int) -> float:
    """Return the share of the rate of a wide model that one of this width reaches."""
    return min(1.0, hidden_size / _WIDE_ENOUGH[device_kind])


def operations_per_token(model: ModelProfile, setup: Setup) -> float:
    """Return the floating point operations that training does for one token."""
    active = linear_params(model) + model.vocab_size * model.hidden_size
    # Two per weight and token forward, two for the gradients of the inputs, two for those of the weights that learn.
    passes = 6 if setup.method == "full" else 4
    passes += 2 if setup.activation_checkpointing else 0
    dequantised = 1.3 if setup.method == "qlora" else 1.0
    return passes * active * dequantised


def reached_flops(
    model: ModelProfile, setup: Setup, *, tokens_per_step: float, accumulation: int, step_s: float
) -> float | None:
    """Return the rate that a measured step stands for, as a wide model would have reached it.

    The inverse of `estimate_time`: `width_share` times this rate gives back the step. None when the step took no longer
    than what does not depend on its size, so that nothing can be said of the rate.

    Args:
        model: Facts of the base model.
        setup: Method and number format of the run.
        tokens_per_step: Tokens of one optimizer step, padding included.
        accumulation: Micro-batches of one step.
        step_s: Measured time of one optimizer step, in seconds.
    """
    computing_s = step_s - accumulation * STEP_OVERHEAD_S[setup.device]
    if computing_s <= 0:
        return None
    rate = operations_per_token(model, setup) * tokens_per_step / computing_s
    return rate / width_share(setup.device, model.hidden_size)


def estimate_time(
    model: ModelProfile, setup: Setup, steps: Steps, *, tokens_per_step: float, flops: float
) -> TimeEstimate | None:
    """Return how long training takes; None when there are no steps.

    Args:
        model: Facts of the base model.
        setup: Method and number format.
        steps: The cut of the run.
        tokens_per_step: Tokens of one optimizer step, padding included.
        flops: Floating point operations per second that are assumed.
    """
    if not steps.total_steps:
        return None
    step_s = operations_per_token(model, setup) * tokens_per_step / flops
    step_s += steps.accumulation * STEP_OVERHEAD_S[setup.device]
    total_s = step_s * steps.total_steps
    return TimeEstimate(
        low_s=round(total_s / 2.5, 3),
        high_s=round(total_s * 3, 3),
        basis=f"assumed rate of {flops / 1e12:.2g} TFLOP/s, not measured",
    )
