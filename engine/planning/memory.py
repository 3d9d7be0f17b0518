"""Peak memory of a run from a formula: the quick answer, from `config.json` alone, before anything is rehearsed.

What is counted follows the installed software: transformers 5 with SDPA attention, PEFT adapters in float32, TRL's
chunked output layer on a GPU and all logits on a processor, autocast for bfloat16 and float16. Formulas break when the
software changes, so tests hold this one against traces of the engine's own training step.
"""

from collections.abc import Iterator

from engine.planning.block_traits import traits_of
from engine.planning.calibration import Calibration, middle_ratio, ratio_band
from engine.planning.memory_phases import (
    ACTIVATIONS,
    CACHE,
    GATHERED,
    HEAD,
    Moment,
    highest,
    phase_moments,
    phase_peaks,
    size_of,
)
from engine.planning.memory_setup import (
    Attention,
    LinearShape,
    Optimizer,
    Setup,
    Strategy,
    adapted_shapes,
    adapter_params,
    learning_blocks,
    linear_params,
    optimizer_bytes,
    trainable_params,
)
from engine.planning.plan import MemoryEstimate
from engine.planning.profiles import ModelProfile
from engine.text import human_bytes

__all__ = [
    "Attention",
    "LinearShape",
    "Optimizer",
    "Setup",
    "Strategy",
    "adapted_shapes",
    "adapter_params",
    "estimate_memory",
    "learning_blocks",
    "linear_params",
    "memory_components",
    "optimizer_bytes",
    "trainable_params",
]

MIB = 2**20
PROCESS_BASE_BYTES = 560 * MIB
"""Resident memory of a worker with torch, transformers, peft and trl imported, before any model (measured)."""
CUDA_CONTEXT_BYTES = 700 * MIB
"""CUDA context, cuBLAS workspaces and kernels of one process: 650 MiB measured on CUDA 12, 1343 MiB on old cards."""
NCCL_BYTES = 400 * MIB
"""Buffers of the links between GPUs; assumed, never measured here."""
_MOVING = frozenset({ACTIVATIONS, HEAD, CACHE, GATHERED})
_KNOWN_SPREAD = 0.08
_LOOSE_SPREAD = 0.15
_UNKNOWN_SPREAD = 0.4
"""How far the moving part may be off: for families built like Llama, for others that were traced, for the rest."""


def memory_components(model: ModelProfile, setup: Setup) -> Moment:
    """Return `{component: bytes}` of tensors at the highest peak of a training step, without framework and slack."""
    return phase_peaks(model, setup)["training"]


def estimate_memory(
    model: ModelProfile,
    setup: Setup,
    *,
    available_bytes: int | None,
    where: str,
    calibration: Calibration | None = None,
) -> MemoryEstimate:
    """Return the peak memory of a run, per GPU where several share it.

    Args:
        model: Facts of the base model.
        setup: What decides on the memory.
        available_bytes: What the device has free; None when unknown.
        where: Name of that memory, such as `GPU 0`.
        calibration: What was measured on this machine; narrows the range.
    """
    moments = phase_moments(model, setup)
    peaks = {name: highest(found) for name, found in moments.items()}
    notes = list(_notes(model, setup))
    framework_name, framework = _framework(setup, calibration)
    elsewhere = _merges_elsewhere(model, setup, peaks, framework, available_bytes)
    if elsewhere:
        notes.append(elsewhere)
    counted = {name: peak for name, peak in peaks.items() if not (elsewhere and name == "merging")}
    top = max(counted.values(), key=size_of)
    slack = _slack(setup, top)
    # A moment with fewer bytes can reach higher, where more of it moves.
    ranges = [_range(model, setup, moment, calibration) for name in counted for moment in moments[name]]
    expected = size_of(top) + framework + slack
    return MemoryEstimate(
        components={**top, framework_name: framework, "slack": slack},
        expected_bytes=expected,
        low_bytes=min(expected, round(max(low for low, _ in ranges) + 0.85 * framework)),
        high_bytes=max(expected, round(max(high for _, high in ranges)) + _most_framework(framework, calibration)),
        available_bytes=available_bytes,
        where=where,
        basis="formula",
        depth="formula",
        peaks={name: size_of(peak) for name, peak in counted.items()},
        allocated_bytes=size_of(top),
        confidence="low" if _guesses(model, setup) else "normal",
        notes=notes,
    )


def _framework(setup: Setup, calibration: Calibration | None) -> tuple[str, int]:
    if setup.device == "cpu":
        return "process", PROCESS_BASE_BYTES
    measured = calibration.context_bytes if calibration is not None else None
    links = NCCL_BYTES if setup.num_gpus > 1 else 0
    return "CUDA context", (CUDA_CONTEXT_BYTES if measured is None else measured) + links


def _most_framework(framework: int, calibration: Calibration | None) -> int:
    measured = calibration is not None and calibration.context_bytes is not None
    return round((1.05 if measured else 1.3) * framework)


def _moving(peak: Moment) -> int:
    """Return what comes and goes in a step."""
    return sum(size for name, size in peak.items() if name in _MOVING)


def _slack(setup: Setup, peak: Moment) -> int:
    """Return what the allocator holds beyond what is in use.

    CUDA's caching allocator with expandable segments: rounding and a few holes. The C heap of a processor leaves holes:
    0.0 to 0.25 more was measured in full fine-tuning, 0.6 to 0.8 with adapters and their many small temporaries.
    """
    moving = _moving(peak)
    fixed = size_of(peak) - moving
    if setup.device == "cuda":
        return round(0.04 * moving + 0.01 * fixed)
    return round((0.2 if setup.facts.trains_base else 0.5) * moving + 0.02 * fixed)


def _guesses(model: ModelProfile, setup: Setup) -> bool:
    """Return whether a part of the estimate was never held against a trace."""
    many = setup.num_gpus > 1
    return (
        not model.counted or not traits_of(model.model_type).known or not _held_against_training(model, setup) or many
    )


def _held_against_training(model: ModelProfile, setup: Setup) -> bool:
    """Return whether models of this kind were trained to compare; those that also read, on a processor alone."""
    return model.kind == "decoder" or (model.kind in ("encoder", "encoder-decoder") and setup.device == "cpu")


def _range(model: ModelProfile, setup: Setup, peak: Moment, calibration: Calibration | None) -> tuple[float, float]:
    """Return the ends of the range of a phase: the formula's own error, what was measured here, and twice the slack."""
    traits = traits_of(model.model_type)
    loose = traits.norm == "layer" or traits.capped_scores or model.num_experts > 0 or model.kind != "decoder"
    spread = _UNKNOWN_SPREAD if _guesses(model, setup) else _LOOSE_SPREAD if loose else _KNOWN_SPREAD
    moving = _moving(peak)
    fixed = size_of(peak) - moving
    share = 0.01 if model.counted else 0.05
    low = (1 - share) * fixed + (1 - spread) * moving
    high = (1 + share) * fixed + (1 + spread) * moving
    if calibration is not None and calibration.memory_ratios:
        least, most = ratio_band(calibration)
        low, high = low * min(least, middle_ratio(calibration)), high * most
    return low, high + 2 * _slack(setup, peak)


def _merges_elsewhere(
    model: ModelProfile, setup: Setup, peaks: dict[str, Moment], framework: int, available_bytes: int | None
) -> str:
    """Return why merging does not count here: the export takes host memory where the GPU has no room for it."""
    if setup.device == "cpu" or setup.facts.bits is None or "merging" not in peaks:
        return ""
    second = setup.width * model.num_params
    beside = size_of(peaks["merging"]) - second + framework
    if available_bytes is not None and available_bytes - beside > 1.3 * second:
        return ""
    return f"Merging loads the base model again in 16 bits: {human_bytes(second)} of host memory."


def _notes(model: ModelProfile, setup: Setup) -> Iterator[str]:
    """Yield what the person should know of how the estimate was made."""
    if not traits_of(model.model_type).known or not model.counted:
        yield f"The architecture {model.model_type or '(unnamed)'} is not known to the formula; it is read as a Llama."
    if not _held_against_training(model, setup):
        yield "For models that do not only write, the formula was held against training on a processor alone."
    if model.num_experts:
        yield f"All {model.num_experts} experts of each block are in memory, whichever a token takes."
    if model.num_experts and setup.facts.bits is not None:
        yield f"The experts stay in 16 bits: {setup.facts.bits}-bit loading covers linear layers only."
    if setup.strategy == "zero3":
        yield "DeepSpeed ZeRO-3 is counted by rule and was never measured."
    elif setup.num_gpus > 1:
        yield "Memory of several GPUs is counted by rule and was never measured."
