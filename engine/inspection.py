"""The inspection helper process: `python -P -m engine.inspection` answers questions about data, models and tokens.

One JSON object per line on stdin, `{"id", "name", "arguments"}`; one per line on stdout, `{"id", "result"}` or
`{"id", "problems"}`. Standard output is kept for answers alone: whatever a library prints goes to stderr, a log file.
End of file on stdin, that is the end of the front end, ends the process.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from engine.recipe.problems import Problem, ProblemError


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


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out one request; never raises, because the next request must still be answered."""
    try:
        return {"id": request["id"], "result": FUNCTIONS[request["name"]](**request["arguments"])}
    except ProblemError as error:
        return {"id": request["id"], "problems": [problem.to_json() for problem in error.problems]}
    except Exception as error:
        traceback.print_exc()
        problem = Problem(
            "inspection.failed",
            f"{request['name']} failed: {type(error).__name__}: {error}",
            "The whole trace is in inspection.log in the cache folder.",
        )
        return {"id": request["id"], "problems": [problem.to_json()]}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests, one line each, until the end of the file."""
    for line in requests:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def main() -> int:
    """Keep the real stdout for answers, send every other print to stderr, and serve."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    serve(sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
