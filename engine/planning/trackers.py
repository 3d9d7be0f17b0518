"""What a plan says of trackers: their libraries do not come with ftwizard."""

import importlib.util
from collections.abc import Iterator

from engine.planning.profiles import Finding
from engine.recipe.schema import Recipe

LIBRARIES = ("wandb", "mlflow", "trackio")


def tracking_findings(recipe: Recipe) -> Iterator[Finding]:
    """Yield an error for each tracker that is asked for and whose library is not there."""
    for name in LIBRARIES:
        if getattr(recipe.tracking, name) and importlib.util.find_spec(name) is None:
            yield Finding(
                code="tracking.library_missing",
                message=f"tracking.{name} needs the package {name}, which is not installed.",
                fix=f"Run `pip install {name}` in the environment of ftwizard, or remove tracking.{name}.",
                path=f"tracking.{name}",
            )
