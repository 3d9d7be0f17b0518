"""A worker without an engine: `python -P runs_worker.py BEHAVIOUR (RUN_DIR | --standby)`."""

import os
import signal
import sys
import time
from pathlib import Path

from engine.runs.directory import RunDirectory
from engine.runs.liveness import acquire, write_exit
from engine.runs.picture import PictureWriter
from engine.runs.standby import wait_for_run


def descriptors() -> str:
    """Return what this process has open, without the folder that is being read."""
    names = []
    for number in sorted(os.listdir("/proc/self/fd"), key=int):
        try:
            names.append(f"{number}={os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue
    return " ".join(names)


def say(key: str, value: str) -> None:
    sys.stdout.write(f"{key}: {value}\n")
    sys.stdout.flush()


def train(run: RunDirectory, behaviour: str, *, standby: bool) -> int:
    stop = []
    if behaviour == "ignores-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with acquire(run):
        say("open", descriptors())
        say("env", " ".join(sorted(os.environ)))
        writer = PictureWriter(run)
        attempt = writer.picture.attempts + 1
        writer.write("worker.started", pid=os.getpid(), attempt=attempt, standby=standby)
        writer.write("state.changed", state="training")
        if behaviour == "finishes":
            writer.write("run.ended", state="finished", exit_code=0)
            writer.close()
            write_exit(run, "finished", 0)
            return 0
        if behaviour in ("has-child", "leaves-child") and (child := os.fork()) == 0:
            if behaviour == "leaves-child":
                os.setsid()
            os.execvp("sleep", ["sleep", "20"])
        elif "child" in behaviour:
            say("child", str(child))
        while not stop:
            time.sleep(0.01)
        writer.close()
        write_exit(run, "stopped", 75, "SIGTERM")
        return 75


def main() -> int:
    behaviour, where = sys.argv[1:]
    if behaviour == "dies":
        sys.stderr.write("\x1b[2Jcannot import torch\n")
        return 3
    if where == "--standby":
        if behaviour == "deaf":
            time.sleep(600)
        run = wait_for_run()
        return 0 if run is None else train(run, behaviour, standby=True)
    return train(RunDirectory(Path(where)), behaviour, standby=False)


if __name__ == "__main__":
    sys.exit(main())
