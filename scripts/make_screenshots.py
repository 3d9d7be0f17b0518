"""Draw the pictures of the README from a real run: `python scripts/make_screenshots.py [RUN_DIRECTORY]`.

The run is the newest finished one when none is named. The monitor is shown in the middle of it: the first part of the
event log is replayed into a folder of its own, whose lock this process holds.
"""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.runs.directory import RunDirectory  # noqa: E402
from engine.runs.home import home_folders  # noqa: E402
from engine.runs.listing import list_runs  # noqa: E402
from engine.runs.liveness import acquire  # noqa: E402
from tui.app import FtwizardApp  # noqa: E402
from tui.engine_backend import EngineBackend  # noqa: E402
from tui.start import Home, Monitor, StartPoint, Wizard  # noqa: E402

PICTURES = ROOT / "docs" / "images"
SHOWN_SHARE = 0.6
SETTLE_S = 2.5


def newest_finished() -> Path:
    """Return the newest finished run."""
    found = next((summary for summary in list_runs(home_folders()) if summary.state == "finished"), None)
    if found is None:
        raise SystemExit("There is no finished run; do `ftwizard run quickstart` first or name a run directory.")
    return found.run.path


def cut_in_the_middle(run: Path, folder: Path) -> Path:
    """Copy a run with the first part of its training events only."""
    copy = folder / run.name
    copy.mkdir(parents=True)
    shutil.copy(run / "plan.json", copy)
    shutil.copy(run / "recipe.yaml", copy)
    lines = (run / "events.jsonl").read_text().splitlines(keepends=True)
    total = max(json.loads(line).get("total_steps") or 0 for line in lines if '"step.logged"' in line)
    last = next(
        i for i, line in enumerate(lines) if '"step.logged"' in line and json.loads(line)["step"] >= SHOWN_SHARE * total
    )
    (copy / "events.jsonl").write_text("".join(lines[: last + 1]))
    return copy


def shown(app: FtwizardApp) -> str:
    """Return what the screen says."""
    return "\n".join("".join(s.text for s in strip) for strip in app.screen._compositor.render_strips())


async def draw(
    name: str, start: StartPoint, size: tuple[int, int], words: str, keys: tuple[str, ...] = (), then: str = ""
) -> None:
    """Run the app until it shows `words`, press keys, wait for what they lead to (`then`), and save the picture."""
    backend = EngineBackend()
    app = FtwizardApp(start, backend)
    try:
        async with app.run_test(size=size, notifications=False) as pilot:
            while words not in shown(app):
                await pilot.pause(0.1)
            await pilot.pause(SETTLE_S)
            for key in keys:
                await pilot.press(key)
                await pilot.pause(0.7)
            while then not in shown(app):
                await pilot.pause(0.1)
            (PICTURES / f"{name}.svg").write_text(app.export_screenshot(title="ftwizard"))
            print(f"docs/images/{name}.svg")
    finally:
        backend.cool_down()


async def draw_all(run: Path) -> None:
    """Draw every picture."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        middle = cut_in_the_middle(run, Path(folder))
        with acquire(RunDirectory(middle)):
            await draw("monitor", Monitor(middle), (100, 30), "left")
            await draw("monitor-wide", Monitor(middle), (140, 42), "left")
    await draw("result", Monitor(run), (100, 30), "Finished.", ("enter",))
    # A home of its own: the pictures show this run and nobody's others.
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FTWIZARD_HOME"] = folder
        shutil.copytree(run, Path(folder) / "runs" / run.name)
        await draw("home", Home(), (100, 30), "finished")
        await draw("wizard", Wizard(preset="quickstart"), (100, 30), "What should the model learn?")
        to_method, rehearsed = ("f3", "f3"), "simulated"
        await draw("method", Wizard(preset="quickstart", at_review=True), (120, 36), "Ready.", to_method, rehearsed)
        to_xray = ("f3", "f3", "f3")
        await draw("xray", Wizard(preset="quickstart", at_review=True), (100, 30), "Ready.", to_xray, "trained:")
        to_lengths = (*to_xray, "f3", "right")
        await draw("lengths", Wizard(preset="quickstart", at_review=True), (100, 30), "Ready.", to_lengths, "median")
        await draw("review", Wizard(preset="quickstart", at_review=True), (100, 34), "Ready.")


if __name__ == "__main__":
    asyncio.run(draw_all(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else newest_finished()))
