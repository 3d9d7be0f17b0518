"""The rehearsal process: `python -P -m engine.rehearsal`.

One JSON object on stdin, `{"key", "plan", "cpu_limit_s"}`; one line of JSON on stdout, `{"result"}` or `{"problems"}`.
Standard output is kept for the answer: whatever a library prints goes to stderr, a log file. The end of stdin, that is
the end of whoever asked, ends the process.
"""

import json
import os
import resource
import sys
import threading
import warnings
from typing import Any

from engine.planning.plan import Plan
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

NICENESS = 5


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Carry out the request."""
    from engine.rehearsal.run import rehearse

    try:
        return {"result": rehearse(Plan.model_validate(request["plan"]), request["key"]).model_dump(mode="json")}
    except ProblemError as error:
        return {"problems": [problem.to_json() for problem in error.problems]}
    except Exception as error:
        import traceback

        traceback.print_exc()
        problem = Problem(
            "rehearsal.failed",
            f"The rehearsal failed: {type(error).__name__}: {clean_line(error, max_chars=240)}",
            "The estimate is the formula's. The whole trace is in rehearsal.log in the cache folder.",
        )
        return {"problems": [problem.to_json()]}


def limit_processor_time(seconds: int) -> None:
    """Let the system end this process when it has computed for so long; it leaves no image of its memory behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = seconds if hard == resource.RLIM_INFINITY else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (allowed, hard))


def _end_with_the_asker() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> int:
    """Answer one request and end."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.nice(NICENESS)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")
    request = json.loads(sys.stdin.readline())
    limit_processor_time(request["cpu_limit_s"])
    threading.Thread(target=_end_with_the_asker, daemon=True).start()
    answers.write(json.dumps(answer(request)) + "\n")
    answers.flush()
    # Ending in the usual way would release 100 000 storages one by one, for nobody.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
