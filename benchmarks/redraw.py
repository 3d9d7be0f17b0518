"""Bytes and redraws per second of the monitor on a real terminal while a run streams.

`python benchmarks/redraw.py [--seconds 20]`: the fake run of the tests writes ten steps a second; the monitor is
watched with the cell diff and without it, at 80x24 and 200x60.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.terminal import Terminal  # noqa: E402

FTWIZARD = str(Path(sys.executable).parent / "ftwizard")


def measure(columns: int, rows: int, cell_diff: str, seconds: float) -> str:
    """Return one line of figures."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        writer = subprocess.Popen([sys.executable, "-m", "tests.tui.fake_run", str(runs), "--live"], cwd=ROOT)
        try:
            while not list(runs.glob("*/run.lock")):
                time.sleep(0.05)
            (run,) = runs.iterdir()
            environment = {"FTWIZARD_HOME": folder, "FTWIZARD_CELL_DIFF": cell_diff}
            terminal = Terminal([FTWIZARD, "attach", str(run)], columns=columns, rows=rows, environment=environment)
            terminal.wait_for("left", 20)
            terminal.watch(2.0)
            before_s = terminal.cpu_s()
            num_bytes, bursts = terminal.watch(seconds)
            cpu_share = (terminal.cpu_s() - before_s) / seconds
            terminal.close()
        finally:
            writer.kill()
            writer.wait()
    words = "cell diff" if cell_diff == "1" else "Textual alone"
    return (
        f"{columns}x{rows}  {words:<14}{num_bytes:>9,.0f} B/s  {bursts:>5.1f} redraws/s  {100 * cpu_share:>5.1f} % CPU"
    )


def main() -> None:
    """Print a line per setting."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=15.0)
    seconds = arguments.parse_args().seconds
    for columns, rows in ((80, 24), (200, 60)):
        for cell_diff in ("1", "0"):
            print(measure(columns, rows, cell_diff, seconds), flush=True)


if __name__ == "__main__":
    main()
