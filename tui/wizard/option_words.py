"""The ranked table of a plan in words: for the method step and for the plain prompts alike. Plain text, no widget."""

from typing import TYPE_CHECKING, Any

from engine.text import clean_line, human_bytes, human_count, human_duration

if TYPE_CHECKING:
    from engine.planning.plan import MemoryEstimate, Plan, PlanOption, Way

SHORT_PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
PEAKS_DIFFER = 1.01
"""Peaks closer than one percent are one peak to a reader."""


def recommended(plan: "Plan", automatic: "PlanOption | None") -> "PlanOption | None":
    """Return the row of the option that a plan takes when nobody chooses a method; None where that does not fit.

    Args:
        plan: The plan in force.
        automatic: The chosen option of the plan without a chosen method.
    """
    if automatic is None or not can_fit(automatic):
        return None
    same = [row for row in plan.options if row.method == automatic.method and row.packing == automatic.packing]
    titled = [row for row in same if row.title == automatic.title]
    return next((row for row in (*titled, *same) if can_fit(row)), None)


def fits(option: "PlanOption") -> bool:
    """Return whether an option runs and its whole range is free."""
    span, free = option.memory.high_bytes, option.memory.available_bytes
    return option.verdict == "fits" or (option.verdict == "chosen" and (free is None or span <= free))


def can_fit(option: "PlanOption") -> bool:
    """Return whether an option runs here and what it is expected to need is free."""
    if option.verdict in ("impossible", "too_large"):
        return False
    free = option.memory.available_bytes
    return option.verdict != "chosen" or free is None or option.memory.expected_bytes <= free


def chosen_option(plan: "Plan") -> "PlanOption | None":
    """Return the option that the recipe resolves to."""
    return next((option for option in plan.options if option.verdict == "chosen"), None)


def answers_of(option: "PlanOption") -> dict[str, Any]:
    """Return the answers that take an option; the method is always one of them, so that it stays what was chosen."""
    return {"method.name": option.method, **option.changes}


def answers_of_way(way: "Way") -> dict[str, Any]:
    """Return the answers that take a way."""
    return dict(way.changes)


def about(seconds: float | None) -> str:
    """Return a duration as an estimate deserves it: no seconds after the first minutes."""
    if seconds is None:
        return ""
    rounded = round(seconds / 60) * 60
    return human_duration(rounded).replace(" 00 s", "") if seconds >= 180 else human_duration(seconds)


def verdict_words(option: "PlanOption") -> str:
    """Return in two or three words how an option stands on this machine."""
    match option.verdict:
        case "chosen":
            return "chosen" if fits(option) else "chosen, may not fit" if can_fit(option) else "chosen, does not fit"
        case "fits":
            return "fits"
        case "tight":
            return "may not fit"
        case "too_large":
            return "does not fit"
        case "impossible":
            return "cannot run here"


def cut_words(option: "PlanOption") -> str:
    """Return how the effective batch is cut: micro-batch, accumulation, and the GPUs where there are several."""
    gpus = f" × {option.num_gpus} GPUs" if option.num_gpus > 1 else ""
    return f"micro-batch {option.micro_batch} × accumulation {option.accumulation}{gpus}"


def settings_words(option: "PlanOption") -> str:
    """Return the settings that an option means."""
    parts = [
        cut_words(option) + (", packed" if option.packing else ""),
        "activation checkpointing" if option.activation_checkpointing else "no checkpointing",
        option.optimizer,
        SHORT_PRECISIONS.get(option.precision, option.precision),
        clean_line(option.attention),
    ]
    return clean_line(" · ".join(parts))


def effort_words(option: "PlanOption") -> str:
    """Return time, speed and disk of an option, as far as known."""
    parts = [about(option.time_s)]
    if option.time_s is not None and option.time_basis:
        parts[0] += f" ({clean_line(option.time_basis)})"
    if option.tokens_per_s is not None:
        parts.append(f"{human_count(option.tokens_per_s)} tokens/s")
    if option.disk_bytes:
        parts.append(f"{human_bytes(option.disk_bytes)} on disk")
    return " · ".join(part for part in parts if part)


def range_words(memory: "MemoryEstimate") -> str:
    """Return expected, range and depth of an estimate: `2.1 GiB (1.9 to 2.4 GiB), simulated`."""
    low, high = human_bytes(memory.low_bytes), human_bytes(memory.high_bytes)
    if low.partition(" ")[2] == high.partition(" ")[2]:
        low = low.partition(" ")[0]
    sure = ", low confidence" if memory.confidence == "low" else ""
    return f"{human_bytes(memory.expected_bytes)} ({low} to {high}), {memory.depth}{sure}"


def peak_words(memory: "MemoryEstimate") -> str:
    """Return the peak of each phase where they differ: `training 2.1 GiB, evaluation 2.6 GiB (highest)`; else empty."""
    peaks = {phase: size for phase, size in memory.peaks.items() if size > 0}
    if len(peaks) < 2 or max(peaks.values()) <= PEAKS_DIFFER * min(peaks.values()):
        return ""
    highest = max(peaks, key=lambda phase: peaks[phase])
    return ", ".join(
        f"{clean_line(phase)} {human_bytes(size)}" + (" (highest)" if phase == highest else "")
        for phase, size in peaks.items()
    )
