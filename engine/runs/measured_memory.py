"""What a run's memory was predicted to be, and what was measured: one comparison for the monitor and the report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.runs.reducer import Picture
from engine.text import clean_line, human_bytes

if TYPE_CHECKING:
    # pydantic costs 100 ms: lists of runs do without it.
    from engine.planning.plan import MemoryEstimate

Verdict = Literal["inside", "above", "below", "unknown"]

DEPTH_WORDS = {
    "formula": "by formula",
    "simulated": "rehearsed, not measured",
    "measured": "measured by the probe",
}
_WHERE = {
    "loading": "while the model was loaded",
    "training": "at step {step}",
    "evaluation": "while the model of step {step} was measured",
    "saving": "while step {step} was saved",
    "merging": "while the model was exported",
}
PHASE_TITLES = {
    "loading": "Loading",
    "training": "Training",
    "evaluation": "Evaluation",
    "saving": "Saving",
    "merging": "Export",
}


@dataclass(frozen=True, slots=True)
class MemoryComparison:
    """A prediction and the highest memory that was measured.

    Attributes:
        low_bytes: Lower end of the predicted range.
        expected_bytes: What was expected.
        high_bytes: Upper end of the predicted range.
        depth: How the prediction was made: `formula`, `simulated` or `measured`.
        measured_bytes: Highest memory measured so far; None before the first measurement.
        phase: Where it was measured, one of `PHASE_TITLES`.
        step: Optimizer steps done by then.
        kind: What was measured: `device`, `reserved`, `tensors` or `rss`.
        planned_micro_batch: Rows at once that the prediction is of; None when unknown.
        micro_batch: Rows at once in the run now; None before training.
    """

    low_bytes: int
    expected_bytes: int
    high_bytes: int
    depth: str
    measured_bytes: int | None = None
    phase: str = ""
    step: int = 0
    kind: str = ""
    planned_micro_batch: int | None = None
    micro_batch: int | None = None

    @property
    def verdict(self) -> Verdict:
        """Where the measured peak lies: inside the predicted range, above or below it."""
        if self.measured_bytes is None:
            return "unknown"
        if self.measured_bytes > self.high_bytes:
            return "above"
        return "below" if self.measured_bytes < self.low_bytes else "inside"

    @property
    def error_percent(self) -> float | None:
        """Predicted against measured, as a share of what was measured; positive when too much was predicted."""
        if not self.measured_bytes:
            return None
        return 100 * (self.expected_bytes - self.measured_bytes) / self.measured_bytes

    @property
    def range_words(self) -> str:
        """Return the range, such as `2.8 to 3.6 GiB`."""
        low, high = human_bytes(self.low_bytes), human_bytes(self.high_bytes)
        low_number, _, low_unit = low.partition(" ")
        return f"{low_number} to {high}" if high.endswith(f" {low_unit}") else f"{low} to {high}"

    @property
    def place(self) -> str:
        """Return where the peak was measured, in words; empty before the first measurement."""
        return _WHERE[self.phase].format(step=f"{self.step:,}") if self.phase in _WHERE else ""

    def sentence(self) -> str:
        """Return peak, prediction and verdict: `peak 3.1 GiB at step 40, predicted 2.8 to 3.6 GiB: inside`."""
        if self.measured_bytes is None:
            return f"not measured yet, predicted {self.range_words}"
        peak = f"peak {human_bytes(self.measured_bytes)} {self.place}".rstrip()
        return f"{peak}, predicted {self.range_words}: {self.verdict_words}"

    @property
    def verdict_words(self) -> str:
        """Return the verdict, with how far outside of the range the peak is."""
        measured = self.measured_bytes or 0
        match self.verdict:
            case "above":
                return f"{human_bytes(measured - self.high_bytes)} above the range"
            case "below":
                return f"{human_bytes(self.low_bytes - measured)} below the range"
            case verdict:
                return verdict

    @property
    def caveats(self) -> list[str]:
        """Return what keeps the two from being of the same thing; sentences."""
        sentences = []
        if self.kind in ("reserved", "tensors"):
            what = "the CUDA context" if self.kind == "reserved" else "the CUDA context and the allocator's slack"
            sentences.append(f"The driver does not tell what this process holds: the measured peak is without {what}.")
        if self.planned_micro_batch and self.micro_batch and self.micro_batch != self.planned_micro_batch:
            sentences.append(
                f"Predicted for {self.planned_micro_batch} rows at a time; the run went on with {self.micro_batch}."
            )
        return sentences


def compare_memory(picture: Picture, estimate: "MemoryEstimate | None") -> MemoryComparison | None:
    """Return predicted and measured memory of a run.

    Args:
        picture: What is known of the run; its own prediction wins, as the worker may have probed since the plan.
        estimate: The plan's, for a run that has not told its own yet.

    Returns:
        None when nothing was predicted.
    """
    predicted = picture.predicted or (estimate.model_dump() if estimate is not None else {})
    bounds = [_size(predicted, name) for name in ("low_bytes", "expected_bytes", "high_bytes")]
    low, expected, high = bounds
    if low is None or expected is None or high is None:
        return None
    peak = picture.measured_peak
    return MemoryComparison(
        low_bytes=low,
        expected_bytes=expected,
        high_bytes=high,
        depth=clean_line(predicted.get("depth") or "formula"),
        measured_bytes=_size(peak, "bytes") or _older_peak(picture),
        phase=str(peak.get("phase") or ""),
        step=int(peak.get("step") or 0),
        kind=str(peak.get("kind") or ""),
        planned_micro_batch=_size(predicted, "micro_batch"),
        micro_batch=_size(picture.training, "micro_batch"),
    )


def _older_peak(picture: Picture) -> int | None:
    """Return the peak of a run whose worker did not tell phases yet, from its newest sample."""
    on_gpu = picture.latest.get("gpu_peak_bytes") is not None
    return _size(picture.latest, "gpu_peak_bytes" if on_gpu else "peak_rss_bytes")


def _size(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
