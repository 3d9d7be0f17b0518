"""The folder that a person wants the finished model in: checked before the run and once more before the copy."""

import os
from pathlib import Path

from engine.paths import typed_path, why_no_path
from engine.recipe.problems import Problem
from engine.recipe.schema import Recipe
from engine.text import clean_line

_PATH = "delivery.output"
_FIX = "Name a new folder in delivery.output, or move those files away."
_OTHER = "Name a new folder in delivery.output."


def check_output(recipe: Recipe) -> list[Problem]:
    """Return why `delivery.output` cannot be used: it holds something, is a file, or may not be made."""
    if recipe.delivery.output is None:
        return []
    folder = typed_path(recipe.delivery.output)
    shown = clean_line(folder, max_chars=160)
    if why := why_no_path(folder):
        return [Problem("delivery.output_impossible", f"The output folder {shown} cannot be: {why}.", _OTHER, _PATH)]
    if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):
        message = f"The output folder {shown} may not be read."
        return [Problem("delivery.output_not_writable", message, "Name a folder that you may write to.", _PATH)]
    if os.path.isdir(folder) and any(folder.iterdir()):
        return [Problem("delivery.output_in_use", f"The output folder {shown} already holds files.", _FIX, _PATH)]
    if os.path.exists(folder) and not os.path.isdir(folder):
        return [Problem("delivery.output_is_file", f"The output folder {shown} is a file.", _OTHER, _PATH)]
    if os.path.ismount(folder):
        message = f"The output folder {shown} is a whole file system, which cannot be put in place in one step."
        return [Problem("delivery.output_is_mount", message, "Name a new folder inside it.", _PATH)]
    # The model is written beside its place and renamed, so the folder around it has to be writable.
    nearest = next((parent for parent in folder.resolve().parents if os.path.exists(parent)), Path("/"))
    if not nearest.is_dir():
        return [Problem("delivery.output_is_file", f"{clean_line(nearest)} is a file, not a folder.", _OTHER, _PATH)]
    if not os.access(nearest, os.W_OK | os.X_OK):
        message = f"The output folder {shown} cannot be made: {clean_line(nearest)} is not writable."
        return [Problem("delivery.output_not_writable", message, "Name a folder that you may write to.", _PATH)]
    return []
