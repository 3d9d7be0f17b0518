"""`python -P -m engine.evaluation.blind_process`: judged answers in, their win rate with its interval out, as JSON.

In: `{"ids": [...], "wins": [1, 0, 0.5, ...]}`. Out: a row as `engine.evaluation.report_metrics.metric_row` gives it.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

from engine.catalog.metrics import find_metric
from engine.evaluation.report_metrics import metric_row

_NAME = "win_rate"


def win_rate_row(ids: Sequence[str], wins: Sequence[float]) -> dict[str, Any]:
    """Return value, 95 % interval and verdict of a win rate; without prompts it is no number.

    Args:
        ids: Names of the prompts, none twice.
        wins: 1 for each that was won, 0 for each that was lost, one half for a tie.
    """
    if not ids:
        return metric_row(find_metric(_NAME), {}, {})
    # As `row_groups.mean_group` has it, without the libraries that its neighbours need.
    rows = [{"metrics": {_NAME: "ratio"}, "ids": list(ids), "parts": [[float(win), 1.0] for win in wins]}]
    return metric_row(find_metric(_NAME), {}, {"metrics": {_NAME: sum(wins) / len(wins)}, "rows": rows})


def main() -> int:
    """Answer one request on standard input."""
    request = json.load(sys.stdin)
    json.dump(win_rate_row(request["ids"], request["wins"]), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
