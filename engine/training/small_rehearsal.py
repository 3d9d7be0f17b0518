"""What small random models say of rehearsals on this machine: measured against rehearsed, stretched to full depth."""

import shutil
from pathlib import Path
from typing import Protocol

from engine.planning.plan import Plan
from engine.planning.rehearsal import RehearsalResult
from engine.recipe.problems import ProblemError
from engine.training.small_models import save_small_config, small_recipe

PHASE = "training"


class Rehearser(Protocol):
    """Rehearses plans, as `engine.planning.rehearse.Rehearsals`."""

    def of_blocking(self, plan: Plan) -> RehearsalResult:
        """Return the rehearsal of a plan."""


def stretched(small: dict[int, int], layers: int) -> float | None:
    """Return the peak of a model of this depth, on the line through the two deepest of the small ones.

    Args:
        small: `{layers: peak bytes of tensors}`.
        layers: Transformer blocks of the whole model.

    Returns:
        None when there are not two depths.
    """
    if len(small) < 2:
        return None
    low, high = sorted(small)[-2:]
    slope = (small[high] - small[low]) / (high - low)
    return small[high] + slope * (layers - high)


def small_plan(plan: Plan, folder: Path, layers: int, target: Path) -> Plan:
    """Return the plan of the same run with a model of fewer blocks, whose configuration is written to a new folder."""
    save_small_config(folder, layers, target)
    profile = plan.model.model_copy(update={"num_layers": layers, "folder": str(target), "download_bytes": 0})
    return plan.model_copy(update={"model": profile, "recipe": small_recipe(plan.recipe, layers)})


def small_ratio(plan: Plan, folder: Path, small: dict[int, int], scratch: Path, rehearser: Rehearser) -> float | None:
    """Return measured over rehearsed peak of tensors; None where it cannot be told.

    Both are stretched to the depth of the whole model, so that what grows with depth weighs as it will.

    Args:
        plan: The run's plan; its micro-batch must be the one that was measured.
        folder: Folder of the base model.
        small: `{layers: measured peak bytes of tensors}`.
        scratch: Folder to work in; removed afterwards.
        rehearser: Asked for the same small models.
    """
    rehearsed: dict[int, int] = {}
    try:
        for layers in sorted(small)[-2:]:
            result = rehearser.of_blocking(small_plan(plan, folder, layers, scratch / f"layers-{layers}"))
            if result.confidence == "low" or PHASE not in result.peaks:
                return None
            rehearsed[layers] = result.peaks[PHASE]
    except ProblemError:
        # No rehearsal of this model or on this machine: there is nothing to compare with, and nothing is kept.
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    measured_bytes, rehearsed_bytes = (
        stretched(small, plan.model.num_layers),
        stretched(rehearsed, plan.model.num_layers),
    )
    if not measured_bytes or not rehearsed_bytes or min(measured_bytes, rehearsed_bytes) <= 0:
        return None
    return measured_bytes / rehearsed_bytes
