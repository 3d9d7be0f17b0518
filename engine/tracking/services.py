"""Trackers that people run or rent: Weights & Biases, MLflow, trackio. Imported only in their own threads.

Tokens stay where those libraries look for them (environment, their own files): no setting of ours holds one.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from engine.data.cleaning.personal import hide_secrets
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten
from engine.runs.events import Event
from engine.tracking.scalars import ScalarReader, finite
from engine.tracking.trackers import Tracker

FINAL_PHASES = {"after": "final", "test": "final_test"}
MAX_PARAM_CHARS = 500
"""MLflow's servers take no longer values."""


def wanted(recipe: Recipe, run_id: str) -> dict[str, Callable[[], Tracker]]:
    """Return `{name: makes the tracker}` of the services that a recipe asks for."""
    makers: dict[str, type[_Service]] = {"wandb": _Wandb, "mlflow": _Mlflow, "trackio": _Trackio}
    asked = {name: getattr(recipe.tracking, name) for name in makers}
    config = _config(recipe)
    title = recipe.name or run_id

    def maker(name: str, project: str) -> Callable[[], Tracker]:
        return lambda: makers[name](project, run_id, title, config)

    return {name: maker(name, project) for name, project in asked.items() if project}


def _config(recipe: Recipe) -> dict[str, Any]:
    leaves = flatten(recipe.model_dump(mode="json"))
    return {path: hide_secrets(value) if isinstance(value, str) else value for path, value in leaves.items()}


class _Service:
    """What the services share: points of one step are sent together."""

    name = ""

    def __init__(self, project: str, run_id: str, title: str, config: Mapping[str, Any]) -> None:
        self._library: Any = importlib.import_module(self.name)
        self._points = ScalarReader()
        self._open(project, run_id, title, config)

    def take(self, event: Event) -> None:
        """Send the numbers of an event."""
        points = [point for point in self._points.read(event) if finite(point)]
        if points:
            self._log({point.tag: point.value for point in points}, points[0].step)
        if event.type == "evaluation.completed" and (part := FINAL_PHASES.get(event.payload.get("phase", ""))):
            self._finals({f"{part}/{point.tag.partition('/')[2]}": point.value for point in points})

    def close(self) -> None:
        """Send what is left."""
        self._finish()

    def _open(self, project: str, run_id: str, title: str, config: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _log(self, values: dict[str, float], step: int) -> None:
        self._library.log(values, step=step)

    def _finals(self, values: dict[str, float]) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        self._library.finish()


class _Wandb(_Service):
    name = "wandb"

    def _open(self, project: str, run_id: str, title: str, config: Mapping[str, Any]) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        self._run = self._library.init(project=project, id=run_id, name=title, config=dict(config), resume="allow")

    def _finals(self, values: dict[str, float]) -> None:
        self._run.summary.update(values)


class _Trackio(_Service):
    name = "trackio"

    def _open(self, project: str, run_id: str, title: str, config: Mapping[str, Any]) -> None:
        self._library.init(project=project, name=run_id, config=dict(config), resume="allow")

    def _finals(self, values: dict[str, float]) -> None:
        self._library.log(values)


class _Mlflow(_Service):
    name = "mlflow"

    def _open(self, project: str, run_id: str, title: str, config: Mapping[str, Any]) -> None:
        self._library.set_experiment(project)
        self._library.start_run(run_name=title, tags={"ftwizard.run": run_id})
        params = {path: str(value)[:MAX_PARAM_CHARS] for path, value in config.items() if value is not None}
        self._library.log_params(params)

    def _log(self, values: dict[str, float], step: int) -> None:
        self._library.log_metrics(values, step=step)

    def _finals(self, values: dict[str, float]) -> None:
        self._library.log_metrics(values)

    def _finish(self) -> None:
        self._library.end_run()
