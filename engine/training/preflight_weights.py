"""P19 to P21: the base model's files before they are loaded, and the layers that loading left without weights."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engine.data.preflight_case import Verdict, counted
from engine.models.loading import check_numbers, check_structure
from engine.models.verified import VerifiedFiles, hash_of, promised_hash, weight_files
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line, human_bytes
from engine.training.preflight import Preflight

_LOADED = TypeVar("_LOADED")
RANDOM_LAYERS = frozenset({"model.tensor_missing", "model.tensor_unexpected", "model.shape_mismatch"})
"""Codes of `engine.models.loading` for weights that do not match the configuration."""


def check_files(preflight: Preflight, folder: Path) -> None:
    """Check the weight files of a model folder: whole, as promised, every number a number.

    Args:
        preflight: Where verdicts go.
        folder: Of the base model.

    Raises:
        ProblemError: A file is damaged.
    """
    preflight.check("P21", "The weight files are whole", lambda: check_contents(folder))
    preflight.check("P19", "Every weight is a number", lambda: _check_numbers(folder))


def check_contents(folder: Path) -> Verdict:
    """Compare headers with sizes, and contents with the hashes that the hub or the folder itself names.

    Raises:
        ProblemError: A file is cut, missing, or not what its hash names.
    """
    check_structure(folder)
    known = VerifiedFiles()
    files = weight_files(folder)
    compared, read_bytes = 0, 0
    for file in files:
        promised = promised_hash(file)
        if not promised:
            continue
        compared += 1
        if known.of(file).sha256 == promised:
            continue
        read_bytes += file.stat().st_size
        found = hash_of(file)
        if found != promised:
            raise ProblemError(_damaged(file, found, promised))
        known.note(file, sha256=found)
    measured = {"files": float(len(files)), "compared": float(compared), "read_bytes": float(read_bytes)}
    words = counted(len(files), "file", "files")
    if not compared:
        message = f"Headers and sizes of {words} agree; nobody names a hash to compare their contents with."
        return Verdict("passed", message, measured=measured)
    read = f"{human_bytes(read_bytes)} read" if read_bytes else "not changed since they were last read"
    return Verdict("passed", f"{compared} of {words} compared by sha256 ({read}).", measured=measured)


def _damaged(file: Path, found: str, promised: str) -> Problem:
    return Problem(
        "model.damaged",
        clean_line(f"{file.name} in {file.parent} is damaged: its sha256 is {found[:12]}..., not {promised[:12]}..."),
        clean_line(f"Remove {file.resolve()} and start again: it is fetched anew. Or copy the model again."),
        path="model.base",
    )


def _check_numbers(folder: Path) -> Verdict:
    num_read = check_numbers(folder)
    files = counted(len(weight_files(folder)), "file", "files")
    if num_read:
        return Verdict("passed", f"No NaN and no infinity in {files}.", measured={"files_read": float(num_read)})
    return Verdict("passed", f"{files} not changed since all numbers were looked at.", measured={"files_read": 0.0})


def loaded_whole(preflight: Preflight, load: Callable[[], _LOADED]) -> _LOADED:
    """Load the model, and tell whether every layer got its weights.

    Raises:
        ProblemError: Whatever loading raises; weights that do not match the configuration are a verdict too.
    """
    title = "Every layer has its weights"
    failure: ProblemError | None = None
    try:
        loaded = load()
    except ProblemError as error:
        if error.problems[0].code not in RANDOM_LAYERS:
            raise
        failure = error

    def verdict() -> Verdict:
        if failure is not None:
            raise failure
        return Verdict("passed", "No layer starts at random, no weight is left over.")

    preflight.check("P20", title, verdict)
    return loaded
