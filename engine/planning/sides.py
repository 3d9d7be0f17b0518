"""Answers that are compared, as the plan counts them: how many sequences a row has, and what else is read of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.catalog.objectives import find_objective
from engine.catalog.preference_losses import PreferenceLoss, find_loss
from engine.planning.profiles import DataProfile


@dataclass(frozen=True, slots=True)
class Sides:
    """What a row costs beside one sequence.

    Attributes:
        count: Sequences that learn: two of a pair, else one.
        beside: Sequences read without learning, for each that learns, at every step.
        reference: Every sequence is read once before the first step, by the untouched model.
    """

    count: int = 1
    beside: float = 0.0
    reference: bool = False


def sides_of(values: Mapping[str, Any], data: DataProfile) -> Sides:
    """Return what a row costs.

    Args:
        values: `{recipe path: value}`.
        data: Facts of the data.
    """
    signal = find_objective(values["objective"]).signal
    if signal not in ("preferences", "rewards"):
        return Sides()
    count = 1 if (values["data.format"] or data.format) == "unpaired_preference" else 2
    loss = loss_of(values)
    if loss is None:
        return Sides(count)
    # KTO reads one answer to another prompt for each row.
    return Sides(count, 1 / count if loss.name == "kto" else 0.0, loss.uses_reference)


def loss_of(values: Mapping[str, Any]) -> PreferenceLoss | None:
    """Return how answers are compared; None for other objectives."""
    return find_loss(values["preference.loss"]) if values["objective"] == "preference" else None
