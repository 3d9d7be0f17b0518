"""The head that an objective puts on a base model, as the plan counts it."""

from engine.catalog.objectives import Objective, find_objective
from engine.planning.layer_sums import head_of_class, head_weights
from engine.planning.profiles import DataProfile, ModelProfile

LEAST_LABELS = 2
"""Classes that are counted with while the data has not told how many there are."""


def with_head(model: ModelProfile, objective: str, data: DataProfile | None = None) -> ModelProfile:
    """Return the facts of a base model with the head that an objective gives it: weights and what it gives out.

    A model that the objective does not train stays as it is; a finding of the plan says so.

    Args:
        model: Facts of the base model.
        objective: A name of the catalogue.
        data: Facts of the data, which tell the number of classes; None when they are not known.
    """
    entry = find_objective(objective)
    if model.kind not in entry.kinds:
        return model
    head = entry.head_of(model.kind)
    labels = _num_labels(entry, data)
    changes: dict[str, object] = {"head": head, "num_labels": labels}
    own = model.head or head_of_class(model.architecture)
    if head in model.heads and (own, model.num_labels) != (head, labels):
        before = head_weights(model.heads, own, model.num_labels) if own in model.heads else 0
        changes["num_params"] = model.num_params - before + head_weights(model.heads, head, labels)
    return model.model_copy(update=changes)


def _num_labels(objective: Objective, data: DataProfile | None) -> int:
    if objective.signal == "rewards":
        return 1
    return max(LEAST_LABELS, len(data.labels)) if data is not None else LEAST_LABELS
