"""A probe's process: measures a run on its device before the first step, and gives all memory back by ending.

`python -P -m engine.training.probe_process` reads one line with a `ProbeRequest` on stdin and leaves `Note` lines in
`SCRATCH/notes.jsonl`. It ends when stdin does, so that no probe outlives its worker. What it prints goes to the run's
log.
"""

import os
import sys
import threading
import traceback
from pathlib import Path

from engine.out_of_memory import is_out_of_memory
from engine.training.probe_request import NOTES, ProbeRequest
from engine.worker import set_environment


def main() -> int:
    """Carry out the probe that stdin asks for; the notes say how it ended."""
    line = _read_line(0)
    if not line:
        return 2
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    set_environment()
    request = ProbeRequest.model_validate_json(line)
    from engine.training.device_memory import meter_for
    from engine.training.probe_phases import Notebook, carry_out, first_line

    meter = meter_for(request.plan.device)
    notebook = Notebook(Path(request.scratch) / NOTES, meter)
    try:
        carry_out(request, meter, notebook)
    except Exception as error:
        traceback.print_exception(error)
        outcome = "out_of_memory" if is_out_of_memory(error) else "failed"
        notebook.write(outcome=outcome, text=first_line(error))
        return 1
    notebook.write(outcome="measured")
    return 0


def _read_line(descriptor: int) -> bytes:
    """Return the first line of a pipe, read from the descriptor itself: a thread waits for its end later."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b""
        line += chunk
    return line


def _end_with_the_worker() -> None:
    while os.read(0, 1 << 16):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
