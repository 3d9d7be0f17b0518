"""Pictures of the monitor and the result, with time and memory held still."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.catalog.metrics import METRICS
from engine.hardware.devices import Gpu, Host
from engine.hardware.readings import Unavailable
from engine.runs.liveness import acquire
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import PROMPTS, TOTAL_STEPS, FakeRun
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.monitor.memory import MemoryReading, memory_lines
from tui.results.screen import ResultScreen
from tui.start import Monitor

SIZES = [(80, 24), (120, 36)]
GIB = 1024**3
HOST = Host(24 * GIB, 20 * GIB, 0, 2, "CPU", frozenset())
STARTED = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**9))
    monkeypatch.setattr("engine.runs.events.time.time", lambda: STARTED + next(clock) * 0.01)
    reading = MemoryReading((), HOST, 540 * 1024**2)
    monkeypatch.setattr("tui.monitor.screen.MemorySampler.sample", lambda self, pid: reading)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[FakeRun]:
    fake = FakeRun(tmp_path / "runs")
    with acquire(fake.run):
        fake.start()
        for step in range(1, 261):
            fake.step(step)
        yield fake
    fake.close()


@pytest.fixture
def finished(tmp_path: Path) -> FakeRun:
    fake = FakeRun(tmp_path / "runs")
    with acquire(fake.run):
        fake.start()
        for step in range(1, TOTAL_STEPS + 1):
            fake.step(step)
        fake.finish()
    fake.close()
    fake.run.report_json_file.write_text(json.dumps(report()))
    return fake


def report(**changes: Any) -> dict[str, Any]:
    """Return a report as `engine.evaluation.report` writes it, as far as the screens read it."""
    samples = [
        {"prompt": prompt, "expected": expected, "before": "The lamp was happy and went home.", "after": expected}
        for prompt, expected in PROMPTS
    ]
    before = {"loss": 3.5, "perplexity": 33.1, "token_accuracy": 0.1, "exact_match": 0.0, "rougeL": 0.05}
    after = {"loss": 0.21, "perplexity": 1.23, "token_accuracy": 0.994, "exact_match": 0.97, "rougeL": 0.99}
    metrics = [
        {
            "name": metric.name, "title": metric.title, "before_text": metric.format(before[metric.name]),
            "after_text": metric.format(after[metric.name]), "direction": "better",
        }
        for metric in METRICS if metric.name in before
    ]  # fmt: skip
    return {
        "version": 1,
        "metrics": metrics,
        "samples": samples,
        "training": {"elapsed_s": 84.0},
        "model": {
            "adapter": "model/adapter", "merged": "model/merged", "num_params": 984_192, "trainable_params": 60_000,
        },
        **changes,
    }  # fmt: skip


def shown(app: FtwizardApp) -> str:
    return "\n".join("".join(s.text for s in strip) for strip in app.screen._compositor.render_strips())


def app_for(fake: FakeRun, tmp_path: Path) -> FtwizardApp:
    return FtwizardApp(Monitor(fake.run.path), FakeBackend(tmp_path / "drafts"))


def hide_paths(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a fixed place instead of the test's folder, whose name changes, and the run as one of the runs folder."""
    monkeypatch.setattr("engine.runs.directory.home_folders", lambda: SimpleNamespace(runs=fake.run.path.parent))
    monkeypatch.setattr("tui.results.screen._fact", _fact_with_fixed_place(str(fake.run.path)))


def _fact_with_fixed_place(real: str) -> Any:
    from tui.results import screen

    original = screen._fact
    return lambda label, text: original(label, text.replace(real, "~/.local/state/ftwizard/runs/commands"))


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("panel", ["evaluation", "samples", "memory", "log"])
async def test_the_live_monitor_looks_as_committed(
    live: FakeRun, tmp_path: Path, size: tuple[int, int], panel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tui.monitor.screen.time.time", lambda: STARTED)
    app = app_for(live, tmp_path)
    async with app.run_test(size=size) as pilot:
        await wait_for(pilot, lambda: "step 260 of 400" in shown(app), "the step")
        key = {"evaluation": "1", "samples": "2", "memory": "3", "log": "4"}[panel]
        await pilot.press(key)
        words = {"evaluation": "step 250", "samples": PROMPTS[0][0][:20], "memory": "plan", "log": "is whole"}[panel]
        await wait_for(pilot, lambda: words in shown(app) and "Reading the memory" not in shown(app), words)
        await pilot.pause()
        check_snapshot(app, f"monitor-{panel}-{size[0]}x{size[1]}", tmp_path)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
async def test_the_result_looks_as_committed(
    finished: FakeRun, tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_paths(finished, monkeypatch)
    app = app_for(finished, tmp_path)
    async with app.run_test(size=size) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen) and "▲ better" in shown(app), "the table")
        await pilot.pause()
        check_snapshot(app, f"result-{size[0]}x{size[1]}", tmp_path)


async def test_the_result_pages_through_samples_and_shows_hostile_text_as_written(
    finished: FakeRun, tmp_path: Path
) -> None:
    hostile = "[/INST][@click=app.quit]x[/] \x1b[2J"
    samples = [{"prompt": hostile, "expected": hostile, "before": hostile, "after": "b"}, *report()["samples"]]
    finished.run.report_json_file.write_text(json.dumps(report(samples=samples)))
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "Prompt 2 of 4" in shown(app), "the sample that became right")
        await pilot.press("left")
        await wait_for(pilot, lambda: "Prompt 1 of 4" in shown(app), "the first sample")
        assert shown(app).count("[/INST]") >= 3
        assert "\x1b" not in shown(app)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"metrics": [1, {}], "samples": [1]}'])
async def test_a_damaged_or_bare_report_does_not_break_the_screen(finished: FakeRun, tmp_path: Path, text: str) -> None:
    finished.run.report_json_file.write_text(text)
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: isinstance(app.screen, ResultScreen), "the result")
        await wait_for(pilot, lambda: "Reading the report" not in shown(app), "the report")


def gpu(**changes: Any) -> Gpu:
    facts: dict[str, Any] = {
        "index": 0, "name": "NVIDIA H200", "uuid": "GPU-0", "compute_capability": (9, 0), "total_bytes": 140 * GIB,
        "free_bytes": 100 * GIB, "used_bytes": 40 * GIB, "utilization_percent": 93, "temperature_c": 61,
        "power_w": 512.0, "processes": [],
    }  # fmt: skip
    return Gpu(**{**facts, **changes})


def test_a_gpu_shows_memory_gauges_and_the_plan_beside_it(live: FakeRun) -> None:
    from engine.runs.picture import open_picture

    picture, _ = open_picture(live.run)
    picture.latest["gpu_peak_bytes"] = 30 * GIB
    lines = [line.plain for line in memory_lines(picture, MemoryReading((gpu(),), HOST, GIB), None, 78)]
    assert "40.0 GiB of 140 GiB" in lines[0]
    assert "93 %" in lines[1]
    assert any("30.0 GiB on the GPU at its peak" in line for line in lines)


def test_what_the_driver_does_not_say_is_not_shown_as_zero(live: FakeRun) -> None:
    from engine.runs.picture import open_picture

    picture, _ = open_picture(live.run)
    unknown = gpu(used_bytes=Unavailable("not supported"), power_w=Unavailable("no permission"))
    text = "\n".join(line.plain for line in memory_lines(picture, MemoryReading((unknown,), HOST, GIB), None, 78))
    assert "n/a (not supported)" in text
    assert " 0 B" not in text
