"""What a finding says to write into a recipe, as options of the command line that was just typed."""

import re
import shlex
from dataclasses import replace

from engine.recipe.problems import Problem, ProblemError
from engine.recipe.spelt_settings import spelt_settings

_MAPPING = re.compile(r"data\.mapping, such as \{([^{}]+)\}")
_ROLE = re.compile(r"([a-z_]+): ([^,:{}]+)(?:, (?=[a-z_]+: )|$)")


def options_of(fix: str) -> list[str]:
    """Return the `--set` options that carry out a fix; empty where it names no setting with a value."""
    mapping = _MAPPING.search(fix)
    if mapping:
        return [f"data.mapping.{role}={column}" for role, column in _ROLE.findall(mapping.group(1))]
    return next(([f"{path}={text}"] for path, text in spelt_settings(fix) if _takes(path, text)), [])


def _takes(path: str, text: str) -> bool:
    """Return whether a recipe takes a setting; a sentence may hold words that only look like one."""
    from engine.recipe.read import check_values, parse_value
    from engine.recipe.sources import unflatten

    try:
        return not check_values(unflatten({path: parse_value(path, text)}), name="")
    except ProblemError:
        return False


def with_options(error: ProblemError) -> ProblemError:
    """Return an error whose fixes also say what to add to the command."""
    return ProblemError(*map(_with_option, error.problems))


def _with_option(problem: Problem) -> Problem:
    options = options_of(problem.fix)
    if not options:
        return problem
    words = shlex.join(word for option in options for word in ("--set", option))
    return replace(problem, fix=f"{problem.fix} Here: {words}")
