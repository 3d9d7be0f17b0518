"""A reward function from a person's own Python file; it runs in the worker, after their own yes."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.paths import typed_path
from engine.recipe.places import function_of
from engine.recipe.problems import Problem, ProblemError
from engine.rewards.rules import Judged, Rule
from engine.text import clean_line

PATH = "reinforcement.reward_file"
DEFAULT_NAME = "reward"
_SHAPE = "def reward(prompt: str, completion: str, answer: str) -> float"


def parted(reference: str) -> tuple[Path, str]:
    """Return file and function that `FILE.py` or `FILE.py:NAME` names."""
    file, name = function_of(reference)
    return typed_path(file), name or DEFAULT_NAME


def load_rule(reference: str, *, trusted: bool) -> Rule:
    """Return the function of a file as a rule.

    Args:
        reference: As `parted` takes it.
        trusted: The person has allowed its code to run (`reinforcement.trust_reward_code`).

    Raises:
        ProblemError: Not allowed, not there, no such function, or an error in it; that of a later call names the line.
    """
    path, name = parted(reference)
    if not trusted:
        message = f"{clean_line(path)} is Python code, which would run as you."
        fix = "Read it, then set reinforcement.trust_reward_code to true."
        raise ProblemError(Problem("reward.file_not_trusted", message, fix, "reinforcement.trust_reward_code"))
    if not path.is_file():
        message = f"The reward file {clean_line(path)} does not exist."
        raise ProblemError(Problem("reward.file_missing", message, "Check the path.", PATH))
    names: dict[str, Any] = {"__name__": "ftwizard_reward", "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)
    except Exception as error:
        raise _failed(error, path, "while it was loaded") from error
    function = names.get(name)
    if not callable(function):
        message = f"{clean_line(path)} has no function {name}."
        raise ProblemError(Problem("reward.file_function", message, f"Write {_SHAPE}: ... in it.", PATH))
    return lambda judged: _call(function, judged, path)


def _call(function: Callable[..., Any], judged: Judged, path: Path) -> float:
    prompt = next((turn["content"] for turn in reversed(judged.prompt) if turn["role"] == "user"), "")
    try:
        value = function(prompt, judged.completion, judged.answer)
    except Exception as error:
        raise _failed(error, path, f"for an answer to {judged.row_id}") from error
    if not isinstance(value, int | float):
        message = (
            f"The reward file {clean_line(path)} returned {clean_line(repr(value), max_chars=60)} for an answer to "
            f"{judged.row_id}, which is no number."
        )
        raise ProblemError(Problem("reward.file_value", message, "Return a number for every answer.", PATH))
    return float(value)


def _failed(error: Exception, path: Path, when: str) -> ProblemError:
    """Return an error of a person's code with the line of their file that it comes from."""
    line: int | None = None
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line = error.lineno
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    text = clean_line(str(error).split("\n")[0], max_chars=200)
    message = f"The reward file {clean_line(path)}, line {line or 1}, failed {when} ({type(error).__name__}: {text})."
    return ProblemError(Problem("reward.file_failed", message, "Correct the file, then resume or start again.", PATH))
