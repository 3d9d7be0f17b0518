"""Which step of a run was best by its chosen metric, and whether that was long ago.

Nothing is remembered but the measurements of the run directory, so that an attempt that goes on from a checkpoint
stands where the one before it stood, and a copied run directory carries it along.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.catalog.metrics import find_metric
from engine.evaluation.measurement import load_measurement
from engine.recipe.schema_training import TrainingSection


@dataclass(frozen=True, slots=True)
class Standing:
    """How the steps compare.

    Attributes:
        metric: Name of the metric.
        step: The best step; None before one was measured.
        value: Its value.
        waited: Evaluations on schedule since then, none of them a new best.
        last_step: Newest step that was measured.
        last_value: Its value.
    """

    metric: str
    step: int | None = None
    value: float = math.nan
    waited: int = 0
    last_step: int = 0
    last_value: float = math.nan


class BestStep:
    """Compares the steps of a run.

    Args:
        folder: The run's measurements.
        training: Says by which metric, and after how many evaluations without a new best training ends.
        evaluate_every: Steps between the evaluations on schedule; others, which somebody asked for, cost no patience.
        saved: Whether a step's weights are on the disk: a step that cannot be gone back to is no best one.
    """

    def __init__(
        self, folder: Path, training: TrainingSection, evaluate_every: int, saved: Callable[[int], bool]
    ) -> None:
        self._folder = folder
        self._metric = training.best_by or "last"
        self._patience = training.early_stopping or 0
        self._every = max(1, evaluate_every)
        self._saved = saved

    @property
    def compares(self) -> bool:
        """Whether steps are compared at all."""
        return self._metric != "last"

    def standing(self, step: int) -> Standing:
        """Return how the steps up to one compare; its own weights count as saved, they are in memory.

        Args:
            step: Optimizer steps done; what an earlier attempt measured beyond it is not looked at.
        """
        found = Standing(self._metric)
        metric = find_metric(self._metric) if self.compares else None
        for measured, value in self._measured(step):
            better = metric is not None and (found.step is None or metric.improved(found.value, value))
            if better and (measured == step or self._saved(measured)):
                found = Standing(self._metric, measured, value, 0, measured, value)
            else:
                waited = found.waited + (found.step is not None and measured % self._every == 0)
                found = Standing(self._metric, found.step, found.value, waited, measured, value)
        return found

    def exhausted(self, standing: Standing) -> bool:
        """Return whether training is to end: it has waited for a new best as long as it may."""
        return 0 < self._patience <= standing.waited

    def _measured(self, last: int) -> list[tuple[int, float]]:
        """Return `(step, value)` of the steps that were measured, in order; values that are no numbers are left out."""
        if not self.compares or not self._folder.is_dir():
            return []
        found = []
        for path in sorted(self._folder.glob("during-*.json")):
            measurement = load_measurement(path)
            if measurement is None or not 0 < measurement["step"] <= last:
                continue
            value = measurement["metrics"].get(self._metric)
            if value is not None and math.isfinite(value):
                found.append((int(measurement["step"]), float(value)))
        return sorted(found)
