"""Client of `engine.evaluation.blind_process`: how sure a win rate is, without importing what that takes. Light."""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

_LIMIT_S = 120.0


def win_rate(ids: Sequence[str], wins: Sequence[float]) -> dict[str, Any]:
    """Return the win rate of judged answers as a row of a report's table: value, interval, verdict.

    Args:
        ids: Names of the prompts.
        wins: 1 for each that was won, 0 for each that was lost, one half for a tie.

    Raises:
        ProblemError: `blind.failed` when the process cannot be started or ends without an answer.
    """
    request = json.dumps({"ids": list(ids), "wins": list(wins)})
    command = [sys.executable, "-P", "-m", "engine.evaluation.blind_process"]
    try:
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=_LIMIT_S, check=True)
        row: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        message = f"The win rate cannot be computed: {clean_line(error, max_chars=200)}."
        fix = "What you judged is kept in evaluation/blind.json; open it once more."
        raise ProblemError(Problem("blind.failed", message, fix)) from error
    return row
