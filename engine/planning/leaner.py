"""A smaller cut of the same plan, for when a deeper look showed that the formula took too much at once. Pure."""

from engine.planning import findings as find
from engine.planning.capabilities import is_allowed
from engine.planning.case import Case, case_of
from engine.planning.duration import estimate_time, reference_seconds
from engine.planning.plan import Plan, ValueSource
from engine.planning.search import Choice, find_setup
from engine.planning.storage import estimate_disk

ROUNDS = 3
"""Rehearsals of one plan, each of a smaller cut; the second is nearly always enough."""
_OUTDATED = frozenset({"plan.slow", "disk.does_not_fit", "disk.download_does_not_fit"})


def leaner(plan: Plan) -> Plan | None:
    """Return the plan with less at once, where it does not fit and chose that itself; None where nothing is left.

    Only how the work is cut changes: rows at once, recomputing, states of the optimizer. Method, effective batch and
    whatever somebody set stay. The memory returned is the formula's, moved by what was found of the larger cut, and
    wants a look of its own.

    Args:
        plan: A plan after a deeper look than the formula's.
    """
    if find.fits(plan.memory):
        return None
    case = case_of(plan)
    space = case.space.changed(methods=(case.setup.method,), demand_comfort=False)
    choice = find_setup(space)
    if not is_allowed(choice.setup.optimizer, case.surroundings):
        choice = find_setup(space.changed(optimizers=(case.setup.optimizer,)))
    changes = _changes(case, choice)
    if not choice.fits or not changes:
        return None
    return _with_cut(case, choice, changes)


def _changes(case: Case, choice: Choice) -> dict[str, object]:
    """Return `{field of training: value}` of what is cut in another way."""
    before, after = case.setup, choice.setup
    names = ("micro_batch", "activation_checkpointing", "optimizer")
    return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


def _with_cut(case: Case, choice: Choice, changes: dict[str, object]) -> Plan:
    plan = case.plan
    recipe = plan.recipe.model_copy(update={"training": plan.recipe.training.model_copy(update=changes)})
    source = ValueSource(kind="derived", detail="a deeper look showed that more at once does not fit")
    rows = recipe.training.effective_batch // plan.steps.num_gpus
    micro_batch = choice.setup.micro_batch
    steps = plan.steps.model_copy(update={"micro_batch": micro_batch, "accumulation": rows // micro_batch})
    before_s = reference_seconds(plan.model, choice.setup, case.space.work, case.space.rate, steps)
    time = estimate_time(choice.step_s, steps, case.space.rate, before_s)
    disk = estimate_disk(
        plan.model,
        choice.setup,
        plan.data,
        keep=recipe.training.keep_checkpoints,
        delivery=recipe.delivery,
        free_bytes=plan.disk.free_bytes,
        download_free_bytes=plan.disk.download_free_bytes,
    )
    others = [finding for finding in plan.findings if finding.code not in _OUTDATED | find.MEMORY_CODES]
    return plan.model_copy(
        update={
            "recipe": recipe,
            "sources": plan.sources | {f"training.{name}": source for name in changes},
            "steps": steps,
            "time": time,
            "disk": disk,
            "memory": choice.memory,
            "findings": find.unique([*others, *find.disk_findings(disk), *find.time_findings(time)]),
        }
    )
