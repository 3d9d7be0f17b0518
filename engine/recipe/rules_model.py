"""Rules of the recipe's section `model` alone. See `engine.recipe.rules`."""

from collections.abc import Iterator

from engine.catalog.builtin import is_builtin
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe
from engine.text import clean_line


def model_rules(recipe: Recipe) -> Iterator[Problem]:
    """Yield what the code of a model asks of the person who lets it run."""
    model = recipe.model
    if model.trust_remote_code and not is_builtin(model.base):
        yield Problem(
            "model.remote_code",
            f"model.trust_remote_code lets Python files of {clean_line(model.base, max_chars=80)} run as you.",
            "Keep it only if you have read them or trust their author; most models need none.",
            "model.trust_remote_code",
            "warning",
        )
