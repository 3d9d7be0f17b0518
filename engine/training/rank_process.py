"""One of the processes that share a run on several GPUs: `python -P -m engine.training.rank_process NOTES`.

It reads a `RankJob` and then the worker's lines from stdin, and writes lines of JSON to the descriptor NOTES:
`{"ready": FINGERPRINT}` and `{"fault": {"kind", "text", "where", "row_ids"}}`. It builds model, rows and trainer as the
worker does, computes its micro-batches of each step, and writes nothing else. It ends when stdin does.
"""

import ctypes
import faulthandler
import json
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from engine.training.ranks import RankJob
from engine.worker import set_environment

IGNORED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
"""The worker takes them, and tells."""
_SET_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of `linux/prctl.h`."""


def main(argv: list[str] | None = None) -> int:
    """Carry out one job; returns only when that failed."""
    arguments = sys.argv[1:] if argv is None else argv
    faulthandler.enable()
    end_with_parent()
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    notes, lines = int(arguments[0]), Lines()
    job = RankJob.model_validate(lines.next())
    set_environment()
    # Only now: libraries read the environment when they are imported.
    from engine.training.rank_work import Progress, take_part

    progress = Progress()
    try:
        take_part(job, progress, lines, tell=lambda note: write_note(notes, note))
    except Exception as error:
        traceback.print_exception(error)
        write_note(notes, {"fault": progress.fault(error)})
        return 1
    # The worker has taken the last step too, and ends stdin.
    while True:
        lines.next()


class Lines:
    """What the worker says, line by line; its end ends this process, whatever that is doing."""

    def __init__(self, descriptor: int = 0) -> None:
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(descriptor,), daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Return the next line, waiting as long as it takes."""
        return self._lines.get()

    def await_step(self, step: int) -> None:
        """Wait until the worker has come to the end of a step (from 0).

        Raises:
            RuntimeError: It is at another one.
        """
        line = self.next()
        if line != {"sum": step}:
            raise RuntimeError(f"the worker says {json.dumps(line)} at the end of step {step + 1}")

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb", closefd=False) as pipe:
            for line in pipe:
                self._lines.put(json.loads(line))
        os._exit(0)


def write_note(descriptor: int, note: dict[str, Any]) -> None:
    """Write one line for the worker."""
    os.write(descriptor, json.dumps(note).encode() + b"\n")


def end_with_parent() -> None:
    """Ask Linux to kill this process when the worker ends, also where it cannot listen to its pipe."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
