"""The process of a sweep over learning rates: `python -P -m engine.training.rate_process`.

One JSON object on stdin, `{"plan", "scratch"}`; lines of JSON on stdout: `{"rate", "loss"}` for each step, then
`{"done"}`, or `{"problems"}`. Whatever a library prints goes to stderr, a log file. The end of stdin ends the process,
and its end is how the weights come back untouched: they were only ever changed here.
"""

import json
import os
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line
from engine.worker import choose_device, set_environment

NICENESS = 5


def main() -> int:
    """Sweep once and end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.nice(NICENESS)
    line = sys.stdin.readline()
    if not line:
        return 2
    request = json.loads(line)
    threading.Thread(target=_end_with_the_asker, args=(request["scratch"],), daemon=True).start()
    set_environment()
    try:
        plan = Plan.model_validate(request["plan"])
        choose_device(plan)
        _sweep(plan, Path(request["scratch"]), answers)
    except ProblemError as error:
        _say(answers, {"problems": [problem.to_json() for problem in error.problems]})
    except Exception as error:
        traceback.print_exc()
        _say(answers, {"problems": [_unexpected(error).to_json()]})
    else:
        return 0
    return 1


def _sweep(plan: Plan, scratch: Path, answers: TextIO) -> None:
    from engine.training.rate_sweep import sweep

    sweep(plan, scratch, lambda point: _say(answers, {"rate": point.rate, "loss": point.loss}))
    _say(answers, {"done": True})


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _unexpected(error: Exception) -> Problem:
    from engine.out_of_memory import is_out_of_memory

    if is_out_of_memory(error):
        return Problem(
            "rate.out_of_memory",
            "There is not enough free memory for a sweep, which needs what training needs.",
            "Free memory, or choose a smaller micro-batch.",
        )
    text = f"{type(error).__name__}: {clean_line(error, max_chars=240)}"
    return Problem("rate.failed", f"The sweep failed: {text}", "More is in find-rate.log in the cache folder.")


def _end_with_the_asker(scratch: str) -> None:
    """End when whoever asked is gone, who would have removed the scratch folder."""
    sys.stdin.read()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
