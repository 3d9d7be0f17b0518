"""The worker's side of a standby start: imported and waiting for a run, then on its own."""

import json
import os
from pathlib import Path

from engine.runs.directory import RunDirectory
from engine.runs.disk import PRIVATE_FILE_MODE

ACKNOWLEDGE_VARIABLE = "FTWIZARD_STANDBY_FD"
ACKNOWLEDGED = b"detached\n"
_MAX_LINE_BYTES = 64 * 1024


def wait_for_run() -> RunDirectory | None:
    """Wait on stdin for a run, detach from the front end, tell it so, and return the run.

    Afterwards stdin is `/dev/null`, stdout and stderr are the run's `worker.log`, the working folder is the run
    directory, and no pipe to the front end is left.

    Returns:
        The run to carry; None when the front end closed the pipe, so the process should end.

    Raises:
        OSError, ValueError: The hand-over failed; the front end sees the end of the process and starts another.
    """
    line = _read_line(0)
    if line is None:
        return None
    run = RunDirectory(Path(json.loads(line)["run"]))
    redirect_output(run)
    os.chdir(run.path)
    acknowledge = int(os.environ.pop(ACKNOWLEDGE_VARIABLE))
    try:
        os.write(acknowledge, ACKNOWLEDGED)
    except BrokenPipeError:
        # The front end died after it had asked for the run; the run goes on without it.
        pass
    finally:
        os.close(acknowledge)
    return run


def redirect_output(run: RunDirectory) -> None:
    """Put `/dev/null` on stdin and the run's log on stdout and stderr of this process."""
    log = os.open(run.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    nowhere = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.dup2(nowhere, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
    finally:
        os.close(log)
        os.close(nowhere)


def _read_line(descriptor: int) -> bytes | None:
    """Return the first line of a pipe; None at its end.

    Read from the descriptor itself: a buffered reader on stdin would outlive the pipe.
    """
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(descriptor, 4096)
        if not chunk or len(line) > _MAX_LINE_BYTES:
            return None
        line += chunk
    return line
