"""The worker from a run directory to a finished, stopped or failed run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runs.control import request
from engine.runs.directory import RunDirectory
from tests.engine.forked import ForkedWorker, carry
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows, text_rows

METHODS = {
    "full": {"method": {"name": "full"}},
    "lora": {"method": {"name": "lora"}, "delivery": {"merge": True}},
    "qlora": {"method": {"name": "qlora"}},
}


def steps_logged(run: RunDirectory) -> int:
    return len(events_of(run, "step.logged"))


def ending(run: RunDirectory) -> tuple[str, int]:
    record = json.loads(run.exit_file.read_text())
    return record["state"], record["exit_code"]


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "commands.jsonl", command_rows(48))


@pytest.mark.parametrize("method", METHODS)
def test_chat_run_finishes(method: str, tmp_path: Path, tiny_model_folder: Path, commands: Path):
    training = {"epochs": 2.0, "evaluate_every": 9, "checkpoint_every": 7}
    recipe = made_recipe(tiny_model_folder, commands, training=training, **METHODS[method])
    run = make_run(tmp_path / "run", recipe)
    worker = ForkedWorker(run)
    assert worker.wait() == 0, worker.log()[-3000:]
    assert ending(run) == ("finished", 0)
    events = events_of(run)
    order = [event["state"] for event in events if event["type"] == "state.changed"]
    assert order == ["preparing", "evaluating", "training", "evaluating", "exporting", "finished"]
    curve = loss_curve(run)
    assert curve[max(curve)] < curve[1]
    phases = [event["phase"] for event in events if event["type"] == "evaluation.completed"]
    assert (phases[0], set(phases[1:-1]), phases[-1]) == ("before", {"during"}, "after")
    assert events[-1] == {"type": "run.ended", "state": "finished", "exit_code": 0}
    assert run.report_html_file.exists()
    assert f"{run.read_plan().data.num_rows:,} read = " in run.data_report_markdown_file.read_text()
    assert "data-report.html" in run.report_html_file.read_text()


def test_the_command_carries_a_text_run(tmp_path: Path, tiny_model_folder: Path):
    corpus = write_rows(tmp_path / "corpus.jsonl", text_rows(80))
    recipe = made_recipe(
        tiny_model_folder,
        corpus,
        objective="domain-adaptation",
        training={"packing": True, "epochs": 2.0},
        evaluation={"metrics": ["perplexity", "token_accuracy"]},
    )
    run = make_run(tmp_path / "run", recipe)
    command = [sys.executable, "-P", "-m", "engine.worker", str(run.path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with run.log_file.open("wb") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, cwd=run.path, env=environment, timeout=250, check=False)
    assert ended.returncode == 0, run.log_file.read_text()[-3000:]
    assert ending(run) == ("finished", 0)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_sigterm_saves_and_resume_gives_the_same_curve(
    method: str, tmp_path: Path, tiny_model_folder: Path, commands: Path
):
    training = {"micro_batch": 2, "max_steps": 30, "evaluate_every": 10}
    recipe = made_recipe(tiny_model_folder, commands, method={"name": method, "dropout": 0.1}, training=training)
    straight = make_run(tmp_path / "straight", recipe)
    assert carry(straight) == 0
    stopped = make_run(tmp_path / "stopped", recipe)
    worker = ForkedWorker(stopped)
    worker.wait_for(lambda: steps_logged(stopped) >= 3)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 75
    assert ending(stopped) == ("stopped", 75)
    committed = events_of(stopped, "checkpoint.committed")[-1]["step"]
    assert committed == max(loss_curve(stopped)) < 30
    assert carry(stopped) == 0
    assert events_of(stopped, "worker.started")[-1]["resumed_from"] == committed
    assert loss_curve(stopped) == loss_curve(straight)
    before = [event for event in events_of(stopped, "evaluation.completed") if event["phase"] == "before"]
    assert len(before) == 1


def test_viewers_requests_are_answered(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 100_000}))
    worker = ForkedWorker(run)

    def ask(action: str) -> str:
        identity = request(run, action, "test")
        worker.wait_for(lambda: any(event["id"] == identity for event in events_of(run, "control.acknowledged")))
        return str(events_of(run, "control.acknowledged")[-1]["result"])

    worker.wait_for(lambda: steps_logged(run) >= 2)
    assert "paused" in ask("pause")
    worker.wait_for(lambda: events_of(run, "state.changed")[-1]["state"] == "paused")
    paused_at = steps_logged(run)
    assert "is saved" in ask("checkpoint")
    assert "needs no new checkpoint" in ask("checkpoint")
    assert events_of(run, "checkpoint.committed")[-1]["step"] == paused_at
    ask("evaluate")
    worker.wait_for(lambda: any(event["phase"] == "during" for event in events_of(run, "evaluation.completed")))
    assert steps_logged(run) == paused_at
    request(run, "resume", "test")
    worker.wait_for(lambda: steps_logged(run) > paused_at)
    request(run, "stop", "test")
    assert worker.wait() == 75
    assert events_of(run, "checkpoint.committed")[-1]["step"] == steps_logged(run)
    elapsed = [event["elapsed_s"] for event in events_of(run, "step.logged")]
    assert elapsed == sorted(elapsed)


def test_requests_outside_training_are_answered(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    """In the evaluation before training, in the one after it, in the export, and when nobody is left to look."""
    actions = ("evaluate", "checkpoint", "resume", "pause")

    def asking() -> None:
        import engine.stages
        from engine.training.lookout import Lookout

        measure, export, report = engine.stages.evaluate, engine.stages.export_run, engine.stages.write_report
        pause = Lookout._wait_for_resume

        def ask(stage: str) -> None:
            for action in actions:
                request(run, action, stage)

        def measuring(context, phase, step):
            ask(phase)
            return measure(context, phase, step)

        def exporting(*arguments, **keywords):
            ask("export")
            return export(*arguments, **keywords)

        def reporting(*arguments, **keywords):
            ask("report")
            return report(*arguments, **keywords)

        def paused(self):
            request(run, "resume", "training")
            return pause(self)

        engine.stages.evaluate, engine.stages.export_run = measuring, exporting
        engine.stages.write_report, Lookout._wait_for_resume = reporting, paused

    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 3}))
    worker = ForkedWorker(run, asking)
    assert worker.wait() == 0, worker.log()[-3000:]
    asked = [json.loads(line) for line in run.control_file.read_text().splitlines()]
    answers = {event["id"]: event["result"] for event in events_of(run, "control.acknowledged")}
    assert [entry["by"] for entry in asked if entry["id"] not in answers] == []
    assert len(asked) == len(events_of(run, "control.acknowledged")) == 4 * len(actions) + 1
    by_stage = {(entry["by"], entry["action"]): answers[entry["id"]] for entry in asked}
    assert by_stage["before", "pause"] == "will pause before the first step"
    assert "training has not begun" in by_stage["before", "evaluate"]
    assert by_stage["training", "resume"] == "resumed"
    assert all("training is over" in by_stage["after", action] for action in actions)
    assert all("training is over" in by_stage["export", action] for action in actions)
    assert all(by_stage["report", action] == "too late: the run is finished" for action in actions)
    states = [event["state"] for event in events_of(run, "state.changed")]
    assert states[2:5] == ["training", "paused", "training"]


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_stop_outside_training_is_kept_and_resumable(
    phase: str, tmp_path: Path, tiny_model_folder: Path, commands: Path
):
    def asking() -> None:
        import engine.stages

        measure = engine.stages.evaluate

        def measuring(context, current, step):
            if current == phase:
                request(run, "stop", "test")
            return measure(context, current, step)

        engine.stages.evaluate = measuring

    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 3}))
    assert carry(run, asking) == 75
    assert ending(run) == ("stopped", 75)
    assert [event["result"] for event in events_of(run, "control.acknowledged")] == ["stopping"]
    assert carry(run) == 0
    assert steps_logged(run) == 3


def test_a_signal_in_the_export_leaves_nothing_half_done(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def stopping() -> None:
        from engine.deployment import export

        save = export.save_adapter

        def interrupted(*arguments, **keywords):
            save(*arguments, **keywords)
            os.kill(os.getpid(), signal.SIGTERM)

        export.save_adapter = interrupted

    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 3}))
    assert carry(run, stopping) == 75
    assert ending(run) == ("stopped", 75)
    assert not list(run.model_folder.iterdir())
    assert carry(run) == 0
    assert (run.adapter_folder / "adapter_model.safetensors").exists()
    assert steps_logged(run) == 3


def test_steps_that_differ_from_the_plan_are_told(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = made_recipe(tiny_model_folder, commands, training={"max_steps": 3})
    told = []
    for planned in (3, 8):
        run = make_run(tmp_path / str(planned), recipe, total_steps=planned)
        assert carry(run) == 0
        told.append([e["message"] for e in events_of(run, "notice.raised") if e["code"] == "training.steps_differ"])
    assert told[0] == []
    assert told[1][0].startswith("Training takes 3 steps; the plan expected 8.")


def test_data_that_changed_since_the_plan_is_refused(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands))
    plan = run.read_plan()
    data = plan.data.model_copy(update={"sha256": "0" * 64})
    run.plan_file.write_text(plan.model_copy(update={"data": data}).model_dump_json(), encoding="utf-8")
    assert carry(run) == 2
    assert events_of(run, "worker.failed")[-1]["code"] == "data.changed"


def test_a_missing_file_is_the_persons_doing(tmp_path: Path, tiny_model_folder: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, tmp_path / "nowhere.jsonl"))
    assert carry(run) == 2
    failure = events_of(run, "worker.failed")[-1]
    assert "nowhere.jsonl" in failure["message"]
    assert "Traceback" not in failure["message"]
    assert ending(run) == ("failed", 2)


def test_a_second_worker_is_refused(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    run = make_run(tmp_path / "run", made_recipe(tiny_model_folder, commands, training={"max_steps": 100_000}))
    worker = ForkedWorker(run)
    worker.wait_for(lambda: bool(events_of(run, "worker.started")))
    assert carry(run) == 2
    assert "already carried" in worker.log()
    assert worker.poll() is None
    worker.send(signal.SIGINT)
    assert worker.wait() == 75


def test_a_signal_before_training_stops_cleanly(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = made_recipe(tiny_model_folder, commands, evaluation={"generate_rows": 500, "max_new_tokens": 200})
    run = make_run(tmp_path / "run", recipe)
    worker = ForkedWorker(run)
    worker.wait_for(lambda: bool(events_of(run, "worker.started")))
    worker.send(signal.SIGTERM)
    assert worker.wait() == 75
    assert ending(run) == ("stopped", 75)
    assert not events_of(run, "step.logged")
