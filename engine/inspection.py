"""The inspection helper process: `python -P -m engine.inspection` answers questions about data, models and tokens.

`engine.answering` has the protocol. Standard output is kept for answers alone: whatever a library prints goes to
stderr, a log file. End of file on stdin, that is the end of the front end, stops the work and ends the process.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from engine.answering import serve


def profile_data(recipe: dict[str, Any], folder: str | None = None) -> dict[str, Any]:
    """Return the `DataProfile` of a recipe's data; token lengths are exact when `folder` holds a tokenizer."""
    from engine.data.profile import profile_data as profile
    from engine.recipe.read import check_recipe

    return profile(check_recipe(recipe, name="recipe"), folder=folder).model_dump(mode="json")


def profile_model(base: str, revision: str | None = None) -> dict[str, Any]:
    """Return the `ModelProfile` of a base model; of a hub model that is not here, its small files are fetched."""
    from engine.models.hub import profile_model as profile

    return profile(base, revision).model_dump(mode="json")


def preview_rows(recipe: dict[str, Any], folder: str, start: int = 0, count: int = 5) -> list[dict[str, Any]]:
    """Return training rows as the trainer will see them, token by token."""
    from engine.data.preview import preview_rows as preview
    from engine.recipe.read import check_recipe

    return preview(check_recipe(recipe, name="recipe"), folder=folder, start=start, count=count)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "profile_data": profile_data,
    "profile_model": profile_model,
    "preview_rows": preview_rows,
}


def main() -> int:
    """Keep the real stdout for answers, send every other print to stderr, and serve."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    serve(sys.stdin, answers, FUNCTIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
