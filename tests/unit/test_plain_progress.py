"""Plain progress lines: what comes every second is thinned out, what matters is not."""

import io
from typing import Any

from engine.runs.events import Event
from tui.progress import PlainProgress


def lines_of(events: list[tuple[float, dict[str, Any]]]) -> list[str]:
    """Return the lines for `state.changed` payloads at given times."""
    out = io.StringIO()
    now = [0.0]
    progress = PlainProgress(out, clock=lambda: now[0])
    for number, (time_s, payload) in enumerate(events):
        now[0] = time_s
        follower: Any = None
        progress.event(Event(number, time_s, "state.changed", payload), follower)
    return out.getvalue().splitlines()


def test_a_download_prints_a_line_every_five_seconds_and_every_other_state() -> None:
    ticks = [(float(s), {"state": "preparing", "reason": f"downloading {s} of 12 GiB"}) for s in range(12)]
    end = (11.5, {"state": "preparing", "reason": ""})
    trains = (11.6, {"state": "training", "reason": ""})
    assert lines_of([*ticks, end, trains]) == [
        "preparing: downloading 0 of 12 GiB",
        "preparing: downloading 5 of 12 GiB",
        "preparing: downloading 10 of 12 GiB",
        "preparing",
        "training",
    ]
