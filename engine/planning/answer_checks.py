"""What a plan says of the settings that look at written answers, before anything is trained for hours."""

from collections.abc import Callable, Iterator
from typing import Any

from engine.json_schema import read_schema
from engine.paths import typed_path
from engine.patterns import compile_pattern
from engine.planning.profiles import Finding
from engine.planning.settings import Settings
from engine.planning.trackers import tracking_findings
from engine.recipe.places import function_of
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.text import clean_line

FILES = ("evaluation.json_schema", "evaluation.metric_file")


def settle_answer_checks(settings: Settings) -> None:
    """Write down places as they stand today: the worker starts in another folder."""
    for path in FILES:
        if settings.is_set(path):
            settings.pin(path, str(typed_path(settings[path]).absolute()))


def beside_findings(recipe: Recipe) -> Iterator[Finding]:
    """Yield why something that looks on beside the training cannot: checks of answers, and trackers."""
    yield from answer_check_findings(recipe)
    yield from tracking_findings(recipe)


def answer_check_findings(recipe: Recipe) -> Iterator[Finding]:
    """Yield why a schema, pattern or file cannot be used."""
    section = recipe.evaluation
    if section.json_schema is not None:
        yield from _problems(read_schema, section.json_schema)
    if section.pattern is not None:
        yield from _problems(compile_pattern, section.pattern, "evaluation.pattern")
    if section.metric_file is not None and not typed_path(function_of(section.metric_file)[0]).is_file():
        message = f"The metric file {clean_line(section.metric_file, max_chars=160)} does not exist."
        yield Finding(code="metric.file_missing", message=message, fix="Check the path.", path="evaluation.metric_file")


def _problems(read: Callable[..., Any], *values: str) -> Iterator[Finding]:
    try:
        read(*values)
    except ProblemError as error:
        yield from (Finding(**problem.to_json()) for problem in error.problems)
