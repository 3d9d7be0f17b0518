"""Metrics that say one number for each written answer and are told what to look for by the recipe."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from engine.evaluation.kept_rows import RowGroup
from engine.evaluation.row_groups import mean_group
from engine.evaluation.scores import score_checked
from engine.json_schema import PATH as SCHEMA_PATH
from engine.json_schema import read_schema
from engine.patterns import PATTERN_LIMIT_S, compile_pattern
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import EvaluationSection

PATTERN_PATH = "evaluation.pattern"


@dataclass(frozen=True, slots=True)
class WrittenAnswer:
    """What is known of an answer: the name of its row, its question, what was written and what was expected."""

    id: str
    prompt: str
    text: str
    expected: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found.

    Attributes:
        metrics: `{name: value}`.
        rows: What each row adds.
        failures: A sentence for each metric that could not be measured.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    rows: list[RowGroup] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def check_answers(section: EvaluationSection, answers: Sequence[WrittenAnswer], choices: Collection[str]) -> Checked:
    """Return what the metrics of `choices` say of answers; one that fails is left out and told.

    Args:
        section: Schema, pattern and file of the recipe.
        answers: In the order of the rows.
        choices: Names as in `evaluation.metrics`; others are ignored.
    """
    checked = Checked()
    if not answers:
        return checked
    for choice, values_of in _CHECKS.items():
        if choice not in choices:
            continue
        try:
            name, values = values_of(section, answers)
        except ProblemError as error:
            checked.failures.append(f"{choice} was not measured: {error.problems[0].sentence()}")
            continue
        checked.metrics.update(score_checked(name, values))
        checked.rows.extend(mean_group(name, [answer.id for answer in answers], values))
    return checked


def _json_valid(section: EvaluationSection, answers: Sequence[WrittenAnswer]) -> tuple[str, list[float]]:
    from engine.evaluation.metrics.json_valid import is_json

    return "json_valid", [float(is_json(answer.text)) for answer in answers]


def _json_schema(section: EvaluationSection, answers: Sequence[WrittenAnswer]) -> tuple[str, list[float]]:
    from engine.evaluation.metrics.json_schema import fits_schema

    schema = read_schema(section.json_schema or "")
    return "json_schema", _timed(answers, lambda text: fits_schema(text, schema), SCHEMA_PATH)


def _regex(section: EvaluationSection, answers: Sequence[WrittenAnswer]) -> tuple[str, list[float]]:
    pattern = compile_pattern(section.pattern or "", PATTERN_PATH)
    return "regex", _timed(
        answers, lambda text: pattern.search(text, timeout=PATTERN_LIMIT_S) is not None, PATTERN_PATH
    )


def _metric_file(section: EvaluationSection, answers: Sequence[WrittenAnswer]) -> tuple[str, list[float]]:
    from engine.evaluation.persons_metric import load_metric

    metric = load_metric(section.metric_file or "", trusted=section.trust_metric_code)
    name = "own_error" if metric.lower_is_better else "own_score"
    return name, [metric.value(each.prompt, each.text, each.expected, each.id) for each in answers]


_CHECKS: dict[str, Callable[[EvaluationSection, Sequence[WrittenAnswer]], tuple[str, list[float]]]] = {
    "json_valid": _json_valid,
    "json_schema": _json_schema,
    "regex": _regex,
    "metric_file": _metric_file,
}


def _timed(answers: Sequence[WrittenAnswer], fits: Callable[[str], bool], path: str) -> list[float]:
    """Return 1 or 0 for each answer.

    Raises:
        ProblemError: A pattern takes too long for one of them.
    """
    values = []
    for answer in answers:
        try:
            values.append(float(fits(answer.text)))
        except TimeoutError:
            message = f"A pattern of {path} took more than {PATTERN_LIMIT_S:g} s on the answer to {answer.id}."
            fix = "Write it so that only one way of matching is possible, such as a+ for (a|aa)+."
            raise ProblemError(Problem("evaluation.pattern_slow", message, fix, path)) from None
    return values
