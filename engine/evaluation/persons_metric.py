"""A metric from a person's own Python file; it runs in the worker, after their own yes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.rewards.persons_code import PersonsFile, failed_in, load_function
from engine.text import clean_line

METRIC_FILE = PersonsFile(
    noun="metric file",
    path="evaluation.metric_file",
    consent="evaluation.trust_metric_code",
    code="metric",
    default_name="metric",
    shape="def metric(prompt: str, answer: str, expected: str) -> float",
)


@dataclass(frozen=True, slots=True)
class PersonsMetric:
    """A loaded file.

    Attributes:
        function: What the person wrote.
        file: Where.
        lower_is_better: The file says `better = "lower"`.
    """

    function: Callable[..., Any]
    file: Path
    lower_is_better: bool

    def value(self, prompt: str, answer: str, expected: str, row_id: str) -> float:
        """Return what the function gives for one answer.

        Raises:
            ProblemError: It failed, or gave no finite number; names the line of the file and the row.
        """
        try:
            value = self.function(prompt, answer, expected)
        except Exception as error:
            raise failed_in(error, self.file, f"for the answer to {row_id}", METRIC_FILE) from error
        if not isinstance(value, int | float) or not math.isfinite(value):
            message = (
                f"The metric file {clean_line(self.file)} returned {clean_line(repr(value), max_chars=60)} for the "
                f"answer to {row_id}, which is no finite number."
            )
            fix = "Return a number for every answer, also for an empty one."
            raise ProblemError(Problem("metric.file_value", message, fix, METRIC_FILE.path))
        return float(value)


def load_metric(reference: str, *, trusted: bool) -> PersonsMetric:
    """Return the metric of a file.

    Args:
        reference: `FILE.py` or `FILE.py:NAME`.
        trusted: The person has allowed its code to run (`evaluation.trust_metric_code`).

    Raises:
        ProblemError: Not allowed, not there, no such function, an error in it, or `better` is neither word.
    """
    function, file, names = load_function(reference, METRIC_FILE, trusted=trusted)
    better = names.get("better", "higher")
    if better not in ("higher", "lower"):
        message = f"{clean_line(file)} says better = {clean_line(repr(better), max_chars=60)}."
        raise ProblemError(Problem("metric.file_better", message, 'Write "higher" or "lower".', METRIC_FILE.path))
    return PersonsMetric(function, file, better == "lower")
