"""Rules of the recipe's section `evaluation`. See `engine.recipe.rules`."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.catalog.metrics import GENERATING_CHOICES, METRICS, SETTING_CHOICES
from engine.catalog.objectives import find_objective
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe

METRICS_PATH = "evaluation.metrics"
TRUST = "evaluation.trust_metric_code"


def evaluation_rules(recipe: Recipe, values: Mapping[str, Any], is_set: Callable[[str], bool]) -> Iterator[Problem]:
    """Yield what is wrong between metrics, the objective, and the settings that metrics read.

    Args:
        recipe: Of any objective.
        values: Its leaves by path.
        is_set: Whether somebody set a path to something.
    """
    yield from _fitting(recipe)
    yield from _unread(recipe, is_set)
    yield from _settings(recipe, values)
    yield from _code(recipe)


def _fitting(recipe: Recipe) -> Iterator[Problem]:
    objective = find_objective(recipe.objective)
    for name in dict.fromkeys(recipe.evaluation.metrics or ()):
        if name not in objective.measurable:
            needs = next(metric.needs for metric in METRICS if metric.choice == name)
            yield Problem(
                "evaluation.metric_objective",
                f"The metric {name} does not fit the objective {objective.name}: it needs {needs}.",
                f"Use {', '.join(objective.metrics)}.",
                METRICS_PATH,
            )


def _unread(recipe: Recipe, is_set: Callable[[str], bool]) -> Iterator[Problem]:
    """Yield settings of written answers where no metric looks at any."""
    objective, path = find_objective(recipe.objective), "evaluation.generate_rows"
    asked: set[str] = set(recipe.evaluation.metrics or ()) or {*objective.metrics, *_implied(is_set)}
    if path in objective.settings and is_set(path) and not asked & GENERATING_CHOICES:
        names = " or ".join(name for name in objective.metrics if name in GENERATING_CHOICES)
        fix = f"Remove it, or add {names} to {METRICS_PATH}." if names else f"Remove {path}."
        message = f"{path} has no effect: no chosen metric needs generated answers."
        yield Problem("recipe.no_effect", message, fix, path)


def _implied(is_set: Callable[[str], bool]) -> list[str]:
    return [choice for path, choice in SETTING_CHOICES.items() if is_set(path)]


def _settings(recipe: Recipe, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield metrics that do not know what to look for, and what is to be looked for by none."""
    metrics, objective = recipe.evaluation.metrics, find_objective(recipe.objective)
    if metrics is None:
        return
    for path, choice in SETTING_CHOICES.items():
        if choice in metrics and choice in objective.measurable and values[path] is None:
            message = f"The metric {choice} needs {path}."
            yield Problem("evaluation.setting_missing", message, f"Set {path}, or remove {choice}.", path)
        if choice not in metrics and values[path] is not None and path in objective.settings:
            message = f"{path} has no effect: {METRICS_PATH} leaves {choice} out."
            yield Problem("recipe.no_effect", message, f"Remove {path}, or add {choice} to {METRICS_PATH}.", path)


def _code(recipe: Recipe) -> Iterator[Problem]:
    section = recipe.evaluation
    if TRUST not in find_objective(recipe.objective).settings:
        return
    if section.metric_file is None:
        if section.trust_metric_code:
            message = f"{TRUST} has no effect: there is no evaluation.metric_file."
            yield Problem("recipe.no_effect", message, f"Remove {TRUST}.", TRUST)
    elif not section.trust_metric_code:
        message = "evaluation.metric_file is Python code, which would run as you."
        yield Problem("metric.file_not_trusted", message, f"Read it, then set {TRUST} to true.", TRUST)
    else:
        message = f"{TRUST} lets the Python code of the metric file run as you."
        fix = "Keep it only if you have read the file or trust its author."
        yield Problem("metric.file_code", message, fix, TRUST, "warning")
