"""Training speed with a monitor attached and without one: `python benchmarks/watched_training.py`.

One run of the starter model on the built-in data. A monitor at 80x24 is attached and detached in turn while it trains;
steps per second come from the event log, window by window, so that both halves see the same machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.terminal import Terminal  # noqa: E402

FTWIZARD = str(Path(sys.executable).parent / "ftwizard")
SETTINGS = (
    "training.epochs=200", "training.evaluate_every=100000", "training.checkpoint_every=100000",
    "evaluation.generate_rows=1", "evaluation.max_rows=1",
)  # fmt: skip


def training_clock(events: Path) -> tuple[int, float]:
    """Return the newest step and the training seconds at it."""
    with events.open("rb") as log:
        log.seek(max(0, events.stat().st_size - 65536))
        lines = [line for line in log.read().split(b"\n")[1:] if b'"step.logged"' in line and line.endswith(b"}")]
    newest = json.loads(lines[-1])
    return newest["step"], newest["elapsed_s"]


def window(events: Path, seconds: float) -> float:
    """Return steps per training second over the next `seconds`."""
    step, elapsed_s = training_clock(events)
    time.sleep(seconds)
    later_step, later_s = training_clock(events)
    return (later_step - step) / (later_s - elapsed_s)


def main() -> None:
    """Print speeds and their ratio."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--windows", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=12.0)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "FTWIZARD_HOME": home, "HF_HUB_OFFLINE": "1"}
        changes = [part for setting in SETTINGS for part in ("--set", setting)]
        subprocess.run([FTWIZARD, "run", "quickstart", "--detach", *changes], env=environment, check=True)
        (run,) = (Path(home) / "runs").iterdir()
        try:
            while b'"step":20,' not in (run / "events.jsonl").read_bytes():
                time.sleep(0.5)
            ratios, watched, alone = [], [], []
            for _ in range(options.windows):
                alone.append(window(run / "events.jsonl", options.seconds))
                terminal = Terminal([FTWIZARD, "attach", str(run)], environment={"FTWIZARD_HOME": home})
                terminal.wait_for("step ")
                step, elapsed_s = training_clock(run / "events.jsonl")
                terminal.watch(options.seconds)
                later_step, later_s = training_clock(run / "events.jsonl")
                watched.append((later_step - step) / (later_s - elapsed_s))
                terminal.close()
                ratios.append(watched[-1] / alone[-1])
        finally:
            subprocess.run([FTWIZARD, "stop", str(run), "--kill"], env=environment, check=False)
    print(f"load {os.getloadavg()[0]:.1f}, {options.windows} pairs of {options.seconds:.0f} s windows")
    print(f"alone    {statistics.median(alone):.2f} steps/s  ({min(alone):.2f} to {max(alone):.2f})")
    print(f"watched  {statistics.median(watched):.2f} steps/s  ({min(watched):.2f} to {max(watched):.2f})")
    print(f"ratio    {statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
