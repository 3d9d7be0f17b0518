"""Which numbers of a run's events go to trackers, under which names."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from engine.runs.events import Event

_OF_STEP = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "tokens_per_s": "train/tokens_per_s",
    "epoch": "train/epoch",
}
_OF_PHASE = {"before": "held_out", "during": "held_out", "after": "held_out", "test_before": "test", "test": "test"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of a curve: its name, the optimizer step, the value, and Unix seconds."""

    tag: str
    step: int
    value: float
    time: float


@dataclass(slots=True)
class ScalarReader:
    """Turns events into points.

    Attributes:
        step: The step that the run is at; memory is sampled by the clock and put there.
    """

    step: int = 0

    def read(self, event: Event) -> Iterator[Scalar]:
        """Yield the points of an event; none for most."""
        payload = event.payload
        match event.type:
            case "training.started":
                self.step = int(payload["start_step"])
            case "step.logged":
                self.step = int(payload["step"])
                named = {tag: payload.get(name) for name, tag in _OF_STEP.items()}
                named |= {f"train/{name}": value for name, value in (payload.get("extra") or {}).items()}
                yield from self._points(named, self.step, event.time)
            case "evaluation.completed" if payload.get("phase") in _OF_PHASE:
                part = _OF_PHASE[payload["phase"]]
                named = {f"{part}/{name}": value for name, value in payload["metrics"].items()}
                yield from self._points(named, int(payload["step"]), event.time)
            case "memory.sampled":
                kind = "gpu" if payload.get("peak_kind") != "rss" else "ram"
                yield from self._points({f"memory/peak_{kind}_bytes": payload.get("peak_bytes")}, self.step, event.time)

    def _points(self, named: dict[str, object], step: int, time: float) -> Iterator[Scalar]:
        for tag, value in named.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Scalar(tag, step, float(value), time)


def finite(scalar: Scalar) -> bool:
    """Return whether a point can be drawn; services refuse others."""
    return math.isfinite(scalar.value)
