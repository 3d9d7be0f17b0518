"""Runs of a hub model: planned without its weights, downloaded by the worker, stopped and resumed in the middle."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.recipe.problems import ProblemError
from engine.runs.directory import RunDirectory
from engine.training.download import DownloadTold
from engine.training.interrupt import StopRequested
from tests.engine.forked import ForkedWorker, carry
from tests.engine.made_hub import COMMIT, TOKEN, WEIGHTS, Hub, Served
from tests.engine.made_runs import events_of, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows
from tui.engine_backend import EngineBackend

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(hub: Hub, model: Served, tmp_path: Path) -> RunDirectory:
    """A run of a hub model that waits for its worker; its plan was made without the hub."""
    rows = write_rows(tmp_path / "rows.jsonl", command_rows(16))
    return make_run(tmp_path / "run", made_recipe("made/model", rows, training={"max_steps": 2}))


def reasons(run: RunDirectory) -> list[str]:
    return [event["reason"] for event in events_of(run, "state.changed") if event["state"] == "preparing"]


def secrets_in(folder: Path) -> list[str]:
    """Return the files that hold the token or a signature of an address."""
    words = (TOKEN.encode(), b"secret-part")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes() for word in words)]


def hold_and_wait(hub: Hub, model: Served, run: RunDirectory, cache: Path) -> ForkedWorker:
    """Return a worker that has half of the weights and waits for the rest."""
    model.faults[WEIGHTS] = ["hold"]
    worker = ForkedWorker(run)
    half = len(model.files[WEIGHTS]) // 2
    worker.wait_for(lambda: any(part.stat().st_size >= half // 2 for part in cache.rglob("*.incomplete")))
    return worker


def test_a_signal_in_the_download_stops_cleanly_and_resume_fetches_the_rest(
    hub: Hub, model: Served, run: RunDirectory, tmp_path: Path
):
    worker = hold_and_wait(hub, model, run, tmp_path / "cache")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 75, worker.log()
    assert json.loads(run.exit_file.read_text())["state"] == "stopped"
    assert carry(run) == 0
    assert hub.asked_for(WEIGHTS)[-1] is not None, "the second attempt asks for the rest only"
    assert reasons(run)[0] == ""
    assert any(reason.startswith("downloading ") and " of " in reason for reason in reasons(run))
    assert reasons(run)[-1] == ""
    said = [event["message"] for event in events_of(run, "notice.raised") if event["code"] == "model.download"]
    assert said[0].startswith("Downloading ")
    assert said[-1].startswith("made/model is complete and checked")
    assert not secrets_in(run.path)


def test_a_viewers_stop_ends_the_download(hub: Hub, run: RunDirectory):
    class Desk:
        def stop_asked(self) -> bool:
            return True

        def check_stop(self) -> None:
            raise StopRequested("a viewer asked to stop")

    class Events:
        def write(self, event_type: str, /, **payload: object) -> None:
            written.append(event_type)

    written: list[str] = []
    told = DownloadTold("made/model", Events(), Desk(), clock=lambda: 0.0)  # type: ignore[arg-type]
    with pytest.raises(StopRequested):
        told(1, 10)
    assert written == ["notice.raised"]


def test_progress_is_told_once_a_second(hub: Hub):
    class Desk:
        def stop_asked(self) -> bool:
            return False

    class Events:
        def write(self, event_type: str, /, **payload: object) -> None:
            told_of.append(str(payload.get("reason")))

    told_of: list[str] = []
    now = iter([0.0, 0.4, 0.9, 1.1, 1.5, 2.2])
    told = DownloadTold("made/model", Events(), Desk(), clock=lambda: next(now))  # type: ignore[arg-type]
    for done in range(6):
        told(done * 2**20, 5 * 2**20)
    assert told_of[1:] == [
        "downloading 0 B of 5.0 MiB",
        "downloading 3.0 MiB of 5.0 MiB",
        "downloading 5.0 MiB of 5.0 MiB",
    ]


@pytest.mark.parametrize(
    ("fault", "code", "exit_code"),
    [("gated", "model.gated", 2), ("flip", "model.download_damaged", 2), ("pickle", "model.pickle_only", 2)],
)
def test_a_model_that_cannot_be_had_ends_the_run_in_plain_words(
    hub: Hub, model: Served, run: RunDirectory, fault: str, code: str, exit_code: int
):
    match fault:
        case "gated":
            model.file_error = (403, "GatedRepo", "restricted")
        case "flip":
            model.faults[WEIGHTS] = ["flip"]
        case _:
            del model.files[WEIGHTS]
    assert carry(run) == exit_code
    (failure,) = events_of(run, "worker.failed")
    assert failure["code"] == code
    assert failure["fix"]
    assert not secrets_in(run.path)


async def test_the_wizard_reads_a_typed_model_and_can_stop_reading(
    hub: Hub, model: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path))
    model.faults["config.json"] = ["hold"]
    backend = EngineBackend()
    try:
        reading = asyncio.create_task(backend.model_profile("made/model", None))
        assert await asyncio.to_thread(hub.holding.wait, 60)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        profile = await backend.model_profile("made/model", None)
        assert profile.revision == COMMIT
        assert profile.download_bytes == len(model.files[WEIGHTS])
        with pytest.raises(ProblemError, match="no hub model called made/modle"):
            await backend.model_profile("made/modle", None)
    finally:
        backend.cool_down()
    log = (tmp_path / "cache" / "inspection.log").read_text()
    assert TOKEN not in log


def command(hub: Hub, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb in its own process against the hub."""
    settings = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_HUB_CACHE")}
    settings |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "FTWIZARD_HOME": str(home), "HF_TOKEN": TOKEN}
    words = (sys.executable, "-m", "tui.cli", *words)
    return subprocess.run(words, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_a_typed_hub_model_runs_end_to_end(hub: Hub, model: Served, tmp_path: Path):
    rows = [{"prompt": f"turn on lamp {n}", "completion": f"on(lamp_{n})"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"objective: chat\nmodel: {{base: made/model}}\ndata: {{source: {tmp_path}/rows.jsonl}}\n"
        "training: {max_steps: 2, effective_batch: 2}\nevaluation: {metrics: [perplexity]}\n"
    )
    planned = command(hub, tmp_path, "plan", str(recipe), "--fast", "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    plan = plan.get("plan", plan)
    assert plan["recipe"]["model"]["revision"] == COMMIT
    assert plan["sources"]["model.revision"] == {"kind": "derived", "detail": "newest commit of main"}
    assert plan["disk"]["download_bytes"] == len(model.files[WEIGHTS])
    assert not hub.asked_for(WEIGHTS)
    model.faults[WEIGHTS] = ["cut"]
    ran = command(hub, tmp_path, "run", str(recipe), "--plain")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "of weights of made/model" in ran.stdout
    assert "preparing: downloading" in ran.stdout
    assert len(hub.asked_for(WEIGHTS)) == 2
    assert not secrets_in(tmp_path / "runs")
    assert not secrets_in(tmp_path / "cache")
    assert TOKEN not in ran.stdout + ran.stderr
    unknown = command(hub, tmp_path, "plan", str(recipe), "--set", "model.base=made/modle")
    assert unknown.returncode == 2
    assert "no hub model called made/modle" in unknown.stdout + unknown.stderr
