"""Problems: what is wrong with a recipe, a plan or a file, in a form that every front end can show."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    Attributes:
        code: Stable dotted name for scripts and tests, such as `data.file_missing`.
        message: Plain sentence that names the object and the cause.
        fix: The next action, as a plain sentence; empty when there is none to give.
        path: Recipe path the finding is about, such as `training.max_length`; empty when it is about no field.
        severity: `error` blocks the run, `warning` asks for a look, `note` informs.
    """

    code: str
    message: str
    fix: str = ""
    path: str = ""
    severity: Severity = "error"

    def to_json(self) -> dict[str, Any]:
        """Return the finding as a JSON-ready dictionary."""
        return asdict(self)

    def sentence(self) -> str:
        """Return message and fix as one line."""
        return f"{self.message} {self.fix}".strip()


class ProblemError(Exception):
    """Raised where work cannot go on; carries the findings instead of a bare text."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(problem.sentence() for problem in problems))
        self.problems = problems


def blocking(problems: list[Problem] | tuple[Problem, ...]) -> list[Problem]:
    """Return the findings that block a run."""
    return [problem for problem in problems if problem.severity == "error"]
