"""Functions from a person's own Python files; they run in the worker, after their own yes."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.paths import typed_path
from engine.recipe.places import function_of
from engine.recipe.problems import Problem, ProblemError
from engine.rewards.rules import Judged, Rule
from engine.text import clean_line


@dataclass(frozen=True, slots=True)
class PersonsFile:
    """What a recipe asks a file for.

    Attributes:
        noun: What messages call it.
        path: Recipe path that names it.
        consent: Recipe path that allows it to run.
        code: First part of the codes of problems.
        default_name: Function taken where none is named.
        shape: How the function is written.
    """

    noun: str
    path: str
    consent: str
    code: str
    default_name: str
    shape: str


REWARD_FILE = PersonsFile(
    noun="reward file",
    path="reinforcement.reward_file",
    consent="reinforcement.trust_reward_code",
    code="reward",
    default_name="reward",
    shape="def reward(prompt: str, completion: str, answer: str) -> float",
)


def load_rule(reference: str, *, trusted: bool) -> Rule:
    """Return the function of a file as a rule.

    Args:
        reference: `FILE.py` or `FILE.py:NAME`.
        trusted: The person has allowed its code to run (`reinforcement.trust_reward_code`).

    Raises:
        ProblemError: Not allowed, not there, no such function, or an error in it; that of a later call names the line.
    """
    function, path, _ = load_function(reference, REWARD_FILE, trusted=trusted)
    return lambda judged: _call(function, judged, path)


def load_function(
    reference: str, asked: PersonsFile, *, trusted: bool
) -> tuple[Callable[..., Any], Path, dict[str, Any]]:
    """Run a person's file and return its function, where it stands, and all names of the file.

    Raises:
        ProblemError: Not allowed, not there, no such function, or an error in it.
    """
    file, name = function_of(reference)
    path, name = typed_path(file), name or asked.default_name
    if not trusted:
        message = f"{clean_line(path)} is Python code, which would run as you."
        fix = f"Read it, then set {asked.consent} to true."
        raise ProblemError(Problem(f"{asked.code}.file_not_trusted", message, fix, asked.consent))
    if not path.is_file():
        message = f"The {asked.noun} {clean_line(path)} does not exist."
        raise ProblemError(Problem(f"{asked.code}.file_missing", message, "Check the path.", asked.path))
    names: dict[str, Any] = {"__name__": f"ftwizard_{asked.code}", "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)
    except Exception as error:
        raise failed_in(error, path, "while it was loaded", asked) from error
    function = names.get(name)
    if not callable(function):
        message = f"{clean_line(path)} has no function {name}."
        raise ProblemError(
            Problem(f"{asked.code}.file_function", message, f"Write {asked.shape}: ... in it.", asked.path)
        )
    return function, path, names


def _call(function: Callable[..., Any], judged: Judged, path: Path) -> float:
    prompt = next((turn["content"] for turn in reversed(judged.prompt) if turn["role"] == "user"), "")
    try:
        value = function(prompt, judged.completion, judged.answer)
    except Exception as error:
        raise failed_in(error, path, f"for an answer to {judged.row_id}", REWARD_FILE) from error
    if not isinstance(value, int | float):
        message = (
            f"The reward file {clean_line(path)} returned {clean_line(repr(value), max_chars=60)} for an answer to "
            f"{judged.row_id}, which is no number."
        )
        raise ProblemError(Problem("reward.file_value", message, "Return a number for every answer.", REWARD_FILE.path))
    return float(value)


def failed_in(error: Exception, path: Path, when: str, asked: PersonsFile) -> ProblemError:
    """Return an error of a person's code with the line of their file that it comes from."""
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    text = clean_line(str(error).split("\n")[0], max_chars=200)
    message = f"The {asked.noun} {clean_line(path)}, line {line or 1}, failed {when} ({type(error).__name__}: {text})."
    fix = "Correct the file, then resume or start again."
    return ProblemError(Problem(f"{asked.code}.file_failed", message, fix, asked.path))
