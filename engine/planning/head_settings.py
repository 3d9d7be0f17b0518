"""Settings that an objective reads with one kind of model and not with the one at hand."""

from collections.abc import Iterator

from engine.catalog.matrix import KIND_WORDS
from engine.catalog.objectives import UNREAD_BY_HEAD, Objective
from engine.planning.profiles import Finding, ModelProfile
from engine.planning.settings import Settings
from engine.recipe.fields import fields_by_path


def unread_settings(objective: Objective, model: ModelProfile) -> dict[str, str]:
    """Return `{recipe path: why}` of the objective's settings that nothing reads with this kind of model."""
    if model.kind not in objective.kinds:
        return {}
    unread = UNREAD_BY_HEAD.get(objective.head_of(model.kind), {})
    return {path: because for path, because in unread.items() if path in objective.settings}


def unread_findings(settings: Settings, objective: Objective, model: ModelProfile) -> Iterator[Finding]:
    """Yield an error for each of them that a person set: its author believes that it works."""
    fields = fields_by_path()
    for path, because in unread_settings(objective, model).items():
        value = settings[path]
        # A switch that is off, or a number that is nothing, asks for nothing.
        if settings.set_by_person(path) and value and value != fields[path].default:
            message = f"{path} has no effect: {because}."
            yield Finding(code="recipe.no_effect", message=message, fix=f"Remove {path}.", path=path, severity="error")
    yield from _unmeasured(settings, objective, model)


def _unmeasured(settings: Settings, objective: Objective, model: ModelProfile) -> Iterator[Finding]:
    """Yield an error for each metric that somebody asked for and that is not measured with this kind of model."""
    if model.kind not in objective.kinds:
        return
    measured = (*objective.metrics_of(model.kind), *objective.asked)
    for name in dict.fromkeys(settings["evaluation.metrics"] or ()):
        if name in objective.measurable and name not in measured:
            yield Finding(
                code="evaluation.metric_head",
                message=f"The metric {name} is not measured with such a model, {KIND_WORDS[model.kind]}.",
                fix=f"Use {', '.join(objective.metrics_of(model.kind))}.",
                path="evaluation.metrics",
                severity="error",
            )
