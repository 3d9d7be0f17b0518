"""Time to `ftwizard --help` and to the first wizard screen, beside a bare interpreter and a bare Textual app.

Interleaved rounds on one machine, medians; quote the ratios, the machine may be busy.
"""

import argparse
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
BARE_APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("first screen")
Bare().run()
"""


def wall_s(command: list[str]) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def screen_s(command: list[str], words: str) -> float:
    """Return how long a command takes to show `words` at 80x24."""
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(command, environment={"FTWIZARD_HOME": home})
        try:
            return terminal.wait_for(words)
        finally:
            terminal.close()


def main() -> None:
    """Print a line per measure."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    measures = {
        "bare interpreter": lambda: wall_s([sys.executable, "-c", "pass"]),
        "ftwizard --help": lambda: wall_s([FTWIZARD, "--help"]),
        "bare Textual app": lambda: screen_s([sys.executable, "-c", BARE_APP], "first screen"),
        "ftwizard, first screen": lambda: screen_s([FTWIZARD], "New run"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            seconds[name].append(measure())
    print(f"load {os.getloadavg()[0]:.1f}, {rounds} rounds after one to warm up, wall ms: median (lowest to highest)")
    for name, values in seconds.items():
        counted = [1000 * value for value in values[1:]]
        print(f"{name:<24}{statistics.median(counted):>7.0f}  ({min(counted):.0f} to {max(counted):.0f})")


if __name__ == "__main__":
    main()
