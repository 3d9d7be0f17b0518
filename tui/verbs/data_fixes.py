"""What a finding says to write into a recipe, as options of the command line that was just typed."""

import re
import shlex
from dataclasses import replace

from engine.recipe.problems import Problem, ProblemError

_SETTING = re.compile(r"\b(?:[Ss]et|choose|or) ((?:data|training)\.[a-z_]+(?:\.[a-z_]+)?): ([\w./-]+)")
_MAPPING = re.compile(r"data\.mapping, such as \{([^{}]+)\}")
_ROLE = re.compile(r"([a-z_]+): ([^,:{}]+)(?:, (?=[a-z_]+: )|$)")


def options_of(fix: str) -> list[str]:
    """Return the `--set` options that carry out a fix; empty where it names no setting with a value."""
    mapping = _MAPPING.search(fix)
    if mapping:
        return [f"data.mapping.{role}={column}" for role, column in _ROLE.findall(mapping.group(1))]
    setting = _SETTING.search(fix)
    return [f"{setting.group(1)}={setting.group(2).rstrip('.')}"] if setting else []


def with_options(error: ProblemError) -> ProblemError:
    """Return an error whose fixes also say what to add to the command."""
    return ProblemError(*map(_with_option, error.problems))


def _with_option(problem: Problem) -> Problem:
    options = options_of(problem.fix)
    if not options:
        return problem
    words = shlex.join(word for option in options for word in ("--set", option))
    return replace(problem, fix=f"{problem.fix} Here: {words}")
