"""Pictures of the monitor and the result, with time and memory held still."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.catalog.metrics import METRICS, find_metric
from engine.hardware.devices import Gpu, Host
from engine.hardware.readings import Unavailable
from engine.runs.liveness import acquire
from engine.runs.measured_memory import compare_memory
from engine.runs.picture import Picture, open_picture
from tests.tui.conftest import wait_for
from tests.tui.fake_backend import FakeBackend
from tests.tui.fake_run import PROMPTS, TOTAL_STEPS, FakeRun
from tests.tui.snapshots import check_snapshot
from tui.app import FtwizardApp
from tui.monitor.memory import MemoryReading, memory_lines, prediction_bar, sparks
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


CHECKS = [
    {"id": "P1", "title": "something is trained", "status": "passed", "message": "38 % of the tokens are trained."},
    {"id": "P2", "title": "ends of turns", "status": "passed", "message": "All answers end."},
    {
        "id": "P7", "title": "cut answers", "status": "warning", "message": "3 rows lose their answer at 256 tokens.",
        "fix": "Raise training.max_length.",
    },
    {"id": "P24", "title": "held-out rows", "status": "skipped", "message": "There is no held-out row."},
]  # fmt: skip


def report(**changes: Any) -> dict[str, Any]:
    """Return a report as `engine.evaluation.report` writes it, as far as the screens read it."""
    samples = [
        {"prompt": prompt, "expected": expected, "before": "The lamp was happy and went home.", "after": expected}
        for prompt, expected in PROMPTS
    ]
    before = {"loss": 3.5, "perplexity": 33.1, "token_accuracy": 0.1, "exact_match": 0.0, "rougeL": 0.05}
    after = {"loss": 0.21, "perplexity": 1.23, "token_accuracy": 0.994, "exact_match": 0.97, "rougeL": 0.99}
    margins = {"loss": "±0.03", "perplexity": "±0.04", "token_accuracy": "±0.3", "rougeL": "±2.6"}
    metrics = [
        {
            "name": metric.name, "title": metric.title, "before_text": metric.format(before[metric.name]),
            "after_text": metric.format(after[metric.name]), "after_margin_text": margins.get(metric.name, ""),
            "direction": "unclear" if metric.name == "exact_match" else "better",
        }
        for metric in METRICS if metric.name in before
    ]  # fmt: skip
    return {
        "version": 1,
        "metrics": metrics,
        "samples": samples,
        "preflight": CHECKS,
        "training": {"elapsed_s": 84.0},
        "memory": {"verdict": "inside", "sentence": "peak 580 MiB at step 252, predicted 500 to 800 MiB: inside"},
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
        words = {"evaluation": "step 250", "samples": PROMPTS[0][0][:20], "memory": "expected", "log": "is whole"}[
            panel
        ]
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


async def test_the_result_tells_what_was_checked_before_the_first_step(finished: FakeRun, tmp_path: Path) -> None:
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(120, 60)) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "2 passed, 1 with a warning, 1 not made" in shown(app), "the sum")
        assert "! cut answers: 3 rows lose their answer at 256 tokens. Raise training.max_length." in shown(app)


async def test_the_result_names_the_labels_confused_most(
    finished: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_paths(finished, monkeypatch)
    pairs = [("lost_card", "stolen_card", 6, 10), ("[/INST]\x1b[2J", "card", 2, 9), ("card", "(not given)", 1, 4)]
    mistakes = [{"expected": left, "given": right, "rows": rows, "of": of} for left, right, rows, of in pairs]
    metrics = [
        {"title": metric.title, "before_text": metric.format(0.1), "after_text": metric.format(0.7), "direction": said}
        for metric, said in ((find_metric("accuracy"), "better"), (find_metric("kl"), ""))
    ]
    content = report(metrics=metrics, samples=[], preflight=[], confusion={"mistakes": mistakes})
    finished.run.report_json_file.write_text(json.dumps(content))
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "lost_card → stolen_card" in shown(app), "the mistakes")
        assert "6 of 10 rows" in shown(app)
        assert "[/INST]" in shown(app)
        assert "\x1b" not in shown(app)
        await pilot.pause()
        check_snapshot(app, "result-labels-80x24", tmp_path)


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


async def test_what_nobody_expected_has_no_column(finished: FakeRun, tmp_path: Path) -> None:
    samples = [{"prompt": "p", "expected": "", "before": "one", "after": "two"}]
    finished.run.report_json_file.write_text(json.dumps(report(samples=samples)))
    app = app_for(finished, tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_for(pilot, lambda: "Finished." in shown(app), "the end")
        await pilot.press("enter")
        await wait_for(pilot, lambda: "After" in shown(app) and "two" in shown(app), "the answers")
        assert "Expected" not in shown(app)
        # Nothing to turn to.
        assert "Prompt 1 of 1  p" in shown(app)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1}', '{"metrics": [1, {}], "samples": [1], "preflight": [1, {}]}']
)
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


def pictured(fake: FakeRun, **latest: Any) -> Picture:
    picture, _ = open_picture(fake.run)
    picture.latest.update(latest)
    return picture


def text_of(picture: Picture, reading: MemoryReading, width: int = 78) -> list[str]:
    return [line.plain for line in memory_lines(picture, reading, None, width)]


def on_gpu(fake: FakeRun, peak_gib: float, **predicted: Any) -> Picture:
    picture = pictured(fake, gpu_peak_bytes=29 * GIB, gpu_process_bytes=30 * GIB)
    sizes = {"low_bytes": 28 * GIB, "expected_bytes": 32 * GIB, "high_bytes": 36 * GIB}
    picture.predicted = {**sizes, "depth": "measured", "where": "GPU 0", **predicted}
    picture.measured_peak = {"bytes": int(peak_gib * GIB), "step": 40, "phase": "training", "kind": "device"}
    return picture


def test_a_gpu_shows_the_run_against_its_prediction_and_who_else_is_there(live: FakeRun) -> None:
    lines = text_of(on_gpu(live, 31.5), MemoryReading((gpu(),), HOST, GIB))
    assert "30.0 GiB now" in lines[0]
    assert lines[1] == "◆ measured   ✓ peak 31.5 GiB at step 40, predicted 28.0 to 36.0 GiB: inside"
    assert lines[2] == "┃ expected   32.0 GiB, 1.6 % more than measured (measured by the probe)"
    text = "\n".join(lines)
    assert "40.0 GiB of 140 GiB" in text
    assert "100 GiB free; other processes hold 10.0 GiB" in text
    assert "busy 93 %" in text


def test_a_peak_outside_of_the_range_is_said_plainly(live: FakeRun) -> None:
    above, below = (text_of(on_gpu(live, gib), MemoryReading((), HOST, GIB), width=110)[1] for gib in (40, 20))
    assert above.endswith("! peak 40.0 GiB at step 40, predicted 28.0 to 36.0 GiB: 4.0 GiB above the range")
    assert below.endswith("i peak 20.0 GiB at step 40, predicted 28.0 to 36.0 GiB: 8.0 GiB below the range")


def test_a_narrow_panel_has_prediction_and_peak_on_lines_of_their_own(live: FakeRun) -> None:
    lines = text_of(on_gpu(live, 40), MemoryReading((), HOST, GIB), width=60)
    assert lines[1:3] == [
        "◆ measured   ! peak 40.0 GiB at step 40: 4.0 GiB above the range",
        "░ predicted  28.0 to 36.0 GiB (measured by the probe)",
    ]


def test_the_bar_shows_now_range_expected_and_peak_in_place(live: FakeRun) -> None:
    compared = compare_memory(on_gpu(live, 34), None)
    assert compared is not None
    bar = prediction_bar(30 * GIB, compared, 40).plain
    assert len(bar) == 40
    # 38.2 GiB are the whole axis.
    assert [bar.index(glyph) for glyph in "█▓┃◆"] == [0, 29, 34, 36]
    assert bar.endswith("◆░░·")


def test_an_ended_run_keeps_its_peak_and_a_run_without_prediction_its_ram(live: FakeRun) -> None:
    picture = on_gpu(live, 31.5)
    assert "ended" in text_of(picture, MemoryReading((), HOST, None))[0]
    bare = pictured(live)
    bare.predicted = {}
    assert "540 MiB, 580 MiB at its peak" in text_of(bare, MemoryReading((), HOST, 540 * 1024**2))[0]


@pytest.mark.parametrize(
    ("values", "width", "bars"), [([1.0, 2.0], 8, "▁█"), ([5e9, 5e9 + 1e6], 8, "▁▁"), ([1.0, 9.0, 2.0, 3.0], 2, "█▁")]
)
def test_the_course_of_memory_is_a_row_of_bars(values: list[float], width: int, bars: str) -> None:
    assert sparks(values, width) == bars


def test_what_the_driver_does_not_say_is_not_shown_as_zero(live: FakeRun) -> None:
    picture = pictured(live)
    unknown = gpu(used_bytes=Unavailable("not supported"), power_w=Unavailable("no permission"))
    text = "\n".join(line.plain for line in memory_lines(picture, MemoryReading((unknown,), HOST, GIB), None, 78))
    assert "n/a (not supported)" in text
    assert " 0 B" not in text
