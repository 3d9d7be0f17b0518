"""What the plan finds wrong with where in a model a method trains."""

from collections.abc import Iterator
from typing import Literal

from engine.planning.depth import Stages, head_learns_alone
from engine.planning.plan import Steps
from engine.planning.profiles import Finding, ModelProfile
from engine.recipe.schema import Recipe


def depth_findings(recipe: Recipe, model: ModelProfile, steps: Steps) -> Iterator[Finding]:
    """Yield what does not fit between the depth that a method trains and the model or the length of the run."""
    method = recipe.method.facts
    if recipe.method.name is None:
        return
    if method.learns == "part":
        yield from _layers(recipe, model)
    if method.staged:
        yield from _stages(recipe, model, steps)
    if method.learns == "bottleneck" and model.num_experts:
        yield _finding(
            "method.no_projection",
            "Bottleneck adapters stand behind the feed-forward network of a block, and this model has experts there.",
            "Choose the method lora.",
            "method.name",
        )


def _finding(
    code: str, message: str, fix: str, path: str, severity: Literal["error", "warning", "note"] = "error"
) -> Finding:
    return Finding(code=code, message=message, fix=fix, path=path, severity=severity)


def _layers(recipe: Recipe, model: ModelProfile) -> Iterator[Finding]:
    layers = recipe.method.layers
    if layers is not None and layers > model.num_layers:
        yield _finding(
            "method.too_many_layers",
            f"method.layers is {layers}, and the model has {model.num_layers} blocks.",
            f"Set method.layers to at most {model.num_layers}, or choose the method full.",
            "method.layers",
        )
    if layers == 0 and not head_learns_alone(recipe.objective, model):
        yield _finding(
            "method.head_is_tied",
            "The output layer of this model is its table of embeddings, which stays frozen; with method.layers 0 only "
            "a norm would learn.",
            "Set method.layers to at least 1.",
            "method.layers",
        )


def _stages(recipe: Recipe, model: ModelProfile, steps: Steps) -> Iterator[Finding]:
    per_stage, every = recipe.method.layers_per_stage, recipe.method.unfreeze_every
    if per_stage is None or every is None or not steps.total_steps:
        return
    stages = Stages(model.num_layers, per_stage, head_learns_alone(recipe.objective, model), every)
    opened = stages.num_open(steps.total_steps - 1)
    if opened < len(stages):
        fitting = max(1, (steps.total_steps - 1) // max(1, len(stages) - 1))
        yield _finding(
            "method.stages_never_open",
            f"{opened} of {len(stages)} stages open in {steps.total_steps} steps; what lies below never learns.",
            f"Set method.unfreeze_every to at most {fitting}, raise method.layers_per_stage, or train longer.",
            "method.unfreeze_every",
            "warning",
        )
