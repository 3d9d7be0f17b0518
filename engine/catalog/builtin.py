"""What is shipped with ftwizard: a starter model and the data of the quick start, named `builtin:...` in recipes."""

from pathlib import Path

import presets
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

BUILTIN_PREFIX = "builtin:"
BUILTIN_MODEL = "builtin:starter"
BUILTIN_DATA = "builtin:commands"

_PLACES = {
    BUILTIN_MODEL: "starter",
    BUILTIN_DATA: "commands/commands.jsonl",
}


def is_builtin(reference: str) -> bool:
    """Return whether a recipe value names something shipped with ftwizard."""
    return reference.startswith(BUILTIN_PREFIX)


def builtin_path(reference: str) -> Path:
    """Return the folder or file behind a `builtin:...` name.

    Raises:
        ProblemError: The name is unknown, or the installation lacks the file.
    """
    place = _PLACES.get(reference)
    if place is None:
        raise ProblemError(
            Problem(
                "catalog.builtin_unknown",
                f"Nothing is built in under the name {clean_line(reference, max_chars=80)}.",
                f"Use one of: {', '.join(_PLACES)}.",
            )
        )
    path = Path(presets.__file__).parent / place
    needed = path / "config.json" if reference == BUILTIN_MODEL else path
    if not needed.is_file():
        raise ProblemError(
            Problem(
                "catalog.builtin_missing",
                f"{reference} should lie in {clean_line(path)} and does not: this installation is incomplete.",
                "Install ftwizard again.",
            )
        )
    return path
