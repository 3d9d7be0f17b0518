"""The worker from a run directory to a finished, stopped or failed run, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runs.control import request
from engine.runs.directory import RunDirectory
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows, text_rows

DEADLINE_S = 120.0


def start_worker(run: RunDirectory, **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **variables}
    with run.log_file.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.worker", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=run.path,
            env=environment,
        )


def wait_for(predicate: Callable[[], bool], worker: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not predicate():
        assert worker.poll() is None, f"the worker ended with {worker.returncode}"
        assert time.monotonic() < ends, "deadline"
        time.sleep(0.02)


def finish(worker: subprocess.Popen[bytes], run: RunDirectory) -> int:
    try:
        return worker.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        raise AssertionError(run.log_file.read_text()) from None


def steps_logged(run: RunDirectory) -> int:
    return len(events_of(run, "step.logged"))


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "commands.jsonl", command_rows(48))


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_chat_run_finishes(method: str, tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = made_recipe(
        tiny_model_folder,
        commands,
        method={"name": method},
        training={"epochs": 2.0, "evaluate_every": 5, "checkpoint_every": 4},
        delivery={"merge": method != "full"},
    )
    run = make_run(tmp_path / "run", recipe)
    code = finish(start_worker(run), run)
    assert code == 0, run.log_file.read_text()[-3000:]
    assert json.loads(run.exit_file.read_text())["state"] == "finished"
    events = events_of(run)
    order = [event["state"] for event in events if event["type"] == "state.changed"]
    assert order == ["preparing", "evaluating", "training", "evaluating", "exporting", "finished"]
    curve = loss_curve(run)
    assert curve[max(curve)] < curve[1]
    phases = [event["phase"] for event in events if event["type"] == "evaluation.completed"]
    assert phases[0] == "before"
    assert phases[-1] == "after"
    assert "during" in phases
    assert events[-1] == {"type": "run.ended", "state": "finished", "exit_code": 0}


def test_domain_adaptation_run_finishes(tmp_path: Path, tiny_model_folder: Path):
    text = tmp_path / "corpus.jsonl"
    write_rows(text, text_rows(80))
    recipe = made_recipe(
        tiny_model_folder,
        text,
        objective="domain-adaptation",
        training={"packing": True, "epochs": 2.0},
        evaluation={"metrics": ["perplexity", "token_accuracy"]},
    )
    run = make_run(tmp_path / "run", recipe)
    assert finish(start_worker(run), run) == 0, run.log_file.read_text()[-3000:]


def test_sigterm_saves_and_resume_gives_the_same_curve(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = made_recipe(
        tiny_model_folder, commands, method={"dropout": 0.1}, training={"micro_batch": 2, "max_steps": 60}
    )
    straight = make_run(tmp_path / "straight", recipe)
    worker = start_worker(straight)
    stopped = make_run(tmp_path / "stopped", recipe)
    second = start_worker(stopped)
    wait_for(lambda: steps_logged(stopped) >= 3, second)
    second.send_signal(signal.SIGTERM)
    assert finish(second, stopped) == 75
    assert json.loads(stopped.exit_file.read_text())["state"] == "stopped"
    committed = events_of(stopped, "checkpoint.committed")[-1]["step"]
    assert committed == max(loss_curve(stopped)) < 60
    assert finish(start_worker(stopped), stopped) == 0
    assert events_of(stopped, "worker.started")[-1]["resumed_from"] == committed
    assert finish(worker, straight) == 0
    assert loss_curve(stopped) == loss_curve(straight)


def test_viewers_requests_are_answered(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = made_recipe(tiny_model_folder, commands, training={"max_steps": 100_000})
    run = make_run(tmp_path / "run", recipe)
    worker = start_worker(run)

    def answered(identity: str) -> bool:
        return any(event["id"] == identity for event in events_of(run, "control.acknowledged"))

    wait_for(lambda: steps_logged(run) >= 2, worker)
    pause = request(run, "pause", "test")
    wait_for(lambda: answered(pause), worker)
    wait_for(lambda: events_of(run, "state.changed")[-1]["state"] == "paused", worker)
    paused_at = steps_logged(run)
    checkpoint = request(run, "checkpoint", "test")
    wait_for(lambda: answered(checkpoint), worker)
    assert events_of(run, "checkpoint.committed")[-1]["step"] == paused_at
    evaluate = request(run, "evaluate", "test")
    wait_for(lambda: answered(evaluate), worker)
    wait_for(lambda: any(e["phase"] == "during" for e in events_of(run, "evaluation.completed")), worker)
    assert steps_logged(run) == paused_at
    request(run, "resume", "test")
    wait_for(lambda: steps_logged(run) > paused_at, worker)
    request(run, "stop", "test")
    assert finish(worker, run) == 75
    assert events_of(run, "checkpoint.committed")[-1]["step"] == steps_logged(run)


def test_a_missing_file_is_the_persons_doing(tmp_path: Path, tiny_model_folder: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, tmp_path / "nowhere.jsonl"))
    assert finish(start_worker(run), run) == 2
    failure = events_of(run, "worker.failed")[-1]
    assert "nowhere.jsonl" in failure["message"]
    assert "Traceback" not in failure["message"]
    assert json.loads(run.exit_file.read_text())["exit_code"] == 2


def test_a_second_worker_is_refused(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 100_000}))
    worker = start_worker(run)
    wait_for(lambda: bool(events_of(run, "worker.started")), worker)
    assert start_worker(run).wait(DEADLINE_S) == 2
    assert "already carried" in run.log_file.read_text()
    assert worker.poll() is None
    worker.send_signal(signal.SIGINT)
    assert finish(worker, run) == 75
