"""What the plan chooses and finds about how training goes: the rate's range, which step is best, when to stop."""

import math
from collections.abc import Iterator

from engine.catalog.dropouts import WITHOUT_DROPOUT, no_place
from engine.catalog.objectives import find_objective
from engine.planning.case import setup_of
from engine.planning.derive import usual_rate
from engine.planning.memory import Setup, trainable_params
from engine.planning.plan import Plan, Steps
from engine.planning.profiles import DataProfile, Finding, ModelProfile
from engine.recipe.schema import Recipe
from engine.text import short_number

LEAST_PATIENCE = 3
RANGE_FACTOR = 4.0
"""Learning rates up to so many times below and above the usual one are common."""
FAR_FACTOR = 12.0
"""Beyond so many times the usual rate a run diverges more often than not, or hardly learns."""


def choose_best_by(objective: str, *, held_out: bool) -> tuple[str, str]:
    """Return the metric that says which step is best, and why."""
    if not held_out:
        return "last", "no rows are held out to compare steps on"
    if find_objective(objective).signal == "prompts":
        return "reward", "what is learnt for"
    return "loss", "always measured, and moves before any other"


def choose_patience(best_by: str, steps: Steps) -> tuple[int, str]:
    """Return after how many evaluations without a new best training ends, and why."""
    if best_by == "last":
        return 0, "steps are not compared"
    evaluations = math.ceil(steps.total_steps / steps.evaluate_every) if steps.evaluate_every else 0
    patience = max(LEAST_PATIENCE, math.ceil(evaluations / 2))
    return patience, f"half of {evaluations} evaluations: a pause in progress is shorter, learning by heart is not"


def rate_range(method: str, num_params: int, optimizer: str = "adamw") -> tuple[float, float]:
    """Return the lower and the upper end of the usual learning rates of a method."""
    usual = usual_rate(method, num_params, optimizer)
    return usual / RANGE_FACTOR, usual * RANGE_FACTOR


def rate_params(model: ModelProfile, setup: Setup) -> int:
    """Return the weights by which the usual learning rate goes: all, or those of the part that a method trains."""
    return trainable_params(model, setup) if setup.part else model.num_params


def usual_rates(plan: Plan) -> tuple[float, float]:
    """Return both ends of the usual learning rates of a plan's method, model and optimizer."""
    setup = setup_of(plan)
    return rate_range(setup.method, rate_params(plan.model, setup), setup.optimizer)


def training_findings(
    recipe: Recipe, model: ModelProfile, data: DataProfile, given: frozenset[str], setup: Setup
) -> Iterator[Finding]:
    """Yield what model and data say against settings of the training.

    Args:
        recipe: With every value filled in.
        given: Paths that the person or a preset set.
        setup: What the plan has chosen.
    """
    training = recipe.training
    if training.dropout is not None and model.model_type in WITHOUT_DROPOUT:
        problem = no_place(model.model_type)
        yield Finding(code=problem.code, message=problem.message, fix=problem.fix, path=problem.path, severity="error")
    for path in ("training.early_stopping", "training.best_by"):
        off = training.early_stopping == 0 if path.endswith("stopping") else training.best_by == "last"
        if path in given and data.num_train and not data.num_held_out and not off:
            yield Finding(
                code="recipe.no_effect",
                message=f"{path} has no effect: no rows are held out to compare steps on.",
                fix=f"Set data.held_out to a share such as 0.1, or remove {path}.",
                path=path,
                severity="error",
            )
    if training.precision == "float16" and model.weights_dtype == "bfloat16":
        yield Finding(
            code="training.float16_overflow",
            message="The model was trained in bfloat16; large numbers may overflow in float16, and steps be lost.",
            fix="Set training.precision to bfloat16 where the GPU has it, else to float32.",
            path="training.precision",
            severity="warning",
        )
    yield from _odd_rate(recipe, rate_params(model, setup), given)


def _odd_rate(recipe: Recipe, num_params: int, given: frozenset[str]) -> Iterator[Finding]:
    training, method = recipe.training, recipe.method.facts
    rate, optimizer = training.learning_rate, training.optimizer or "adamw"
    if rate is None or "training.learning_rate" not in given:
        return
    usual = usual_rate(method.name, num_params, optimizer)
    if usual / FAR_FACTOR <= rate <= usual * FAR_FACTOR:
        return
    low, high = rate_range(method.name, num_params, optimizer)
    consequence = "may diverge" if rate > usual else "may learn next to nothing"
    yield Finding(
        code="training.learning_rate_range",
        message=f"training.learning_rate {short_number(rate)} {consequence}: usual for {method.words} with this model "
        f"are {short_number(low)} to {short_number(high)}.",
        fix="Remove it to have it chosen, or look for a good one with `ftwizard find-rate`.",
        path="training.learning_rate",
        severity="warning",
    )
