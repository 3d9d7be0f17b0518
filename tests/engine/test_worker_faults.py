"""Kills, full memory, broken devices and numbers that are none: nothing is lost but the steps since the last commit."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import engine.worker
from engine.runs.checkpoints import CheckpointStore
from engine.runs.directory import RunDirectory
from engine.training.order import StepOrder
from engine.training.trainer import RunTrainer
from tests.engine.forked import ForkedWorker, carry
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows, save_tiny_model

NUM_KILLS = 20
KILLS_IN_SAVE = 5
STEPS = 30


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "commands.jsonl", command_rows(48))


def quick_recipe(model: Path, data: Path, **training):
    """Return a recipe whose run spends its time on training and saving."""
    settings = {"max_steps": STEPS, "checkpoint_every": 2, "micro_batch": 2, **training}
    recipe = made_recipe(model, data, method={"dropout": 0.1}, training=settings)
    return recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"generate_rows": 1, "max_new_tokens": 1})}
    )


def without_evaluation() -> None:
    """Leave measuring out: these tests are about what happens around it."""
    import engine.stages

    engine.stages.evaluate = lambda *_: None


def killed_inside_commit(places: int) -> Callable[[], None]:
    """Return a fault that kills the worker in a commit, at one of the system calls that make it durable."""

    def inject() -> None:
        without_evaluation()
        original, seen = os.fsync, 0
        inside = False
        commit = CheckpointStore.commit

        def counting(descriptor: int) -> None:
            nonlocal seen
            original(descriptor)
            if inside:
                seen += 1
                if seen == places:
                    os.kill(os.getpid(), signal.SIGKILL)

        def watched(self, *arguments):
            nonlocal inside
            inside = True
            try:
                return commit(self, *arguments)
            finally:
                inside = False

        os.fsync = counting
        CheckpointStore.commit = watched

    return inject


def whole_checkpoint(run: RunDirectory) -> int:
    newest = CheckpointStore(run.checkpoints_folder, run.run_id).newest_whole()
    return 0 if newest is None else newest.step


def test_twenty_kills_cost_nothing_but_steps(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    recipe = quick_recipe(tiny_model_folder, commands)
    straight = make_run(tmp_path / "straight", recipe)
    assert carry(straight, without_evaluation) == 0
    chance = random.Random(3)
    run = make_run(tmp_path / "killed", recipe)
    kills = 0
    for attempt in range(4 * NUM_KILLS):
        in_save = attempt % (NUM_KILLS // KILLS_IN_SAVE) == 0
        before = whole_checkpoint(run)
        if before >= STEPS - 4:
            # Nearly done: begin again, so that every kill hits a run in the middle of its work.
            run = make_run(tmp_path / f"killed-{attempt}", recipe)
            before = 0
        worker = ForkedWorker(run, killed_inside_commit(chance.randint(1, 9)) if in_save else without_evaluation)
        if not in_save:
            wanted = before + chance.randint(1, 3)
            worker.wait_for(lambda run=run, wanted=wanted: max(loss_curve(run), default=0) >= wanted)
            time.sleep(chance.random() * 0.02)
            worker.send(signal.SIGKILL)
        assert worker.wait() == -signal.SIGKILL
        kills += 1
        committed = [event["step"] for event in events_of(run, "checkpoint.committed")]
        assert whole_checkpoint(run) >= max(committed, default=0)
        if kills == NUM_KILLS:
            break
    assert kills == NUM_KILLS
    assert carry(run, without_evaluation) == 0
    assert loss_curve(run) == loss_curve(straight)


def test_nan_weights_stop_the_run_and_name_the_rows(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def poison() -> None:
        without_evaluation()
        original = RunTrainer.training_step

        def poisoned(self, model, *arguments, **keywords):
            if self.state.global_step == 4:
                next(p for p in model.parameters() if p.requires_grad).data.fill_(float("nan"))
            return original(self, model, *arguments, **keywords)

        RunTrainer.training_step = poisoned

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, poison) == 1
    failure = events_of(run, "worker.failed")[-1]
    assert failure["code"] == "training.not_finite"
    assert "step 5" in failure["message"]
    assert "commands.jsonl:" in failure["message"]
    last = events_of(run, "step.logged")[-1]
    assert last["step"] == 5
    assert last["loss"] != last["loss"]
    assert whole_checkpoint(run) == 4


def test_a_broken_gradient_names_its_own_step(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def poison() -> None:
        without_evaluation()
        original = RunTrainer.training_step

        def poisoned(self, model, *arguments, **keywords):
            loss = original(self, model, *arguments, **keywords)
            if self.state.global_step == 4:
                next(p for p in model.parameters() if p.requires_grad).grad.fill_(float("nan"))
            return loss

        RunTrainer.training_step = poisoned

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, poison) == 1
    failure = events_of(run, "worker.failed")[-1]
    assert "At step 5 the gradient norm is nan" in failure["message"]
    order = StepOrder([1] * len(run.train_file.read_text().splitlines()), effective_batch=4, micro_batch=2, seed=17)
    ids = [json.loads(line)["id"] for line in run.train_file.read_text().splitlines()]
    assert sorted(ids[row] for row in order.rows_of_step(4)) == sorted(
        re.findall(r"commands\.jsonl:\d+", failure["message"])
    )
    assert whole_checkpoint(run) == 4


def test_a_signal_while_starting_over_is_not_lost(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def too_small() -> None:
        without_evaluation()

        def refused(self, *arguments, **keywords):
            os.kill(os.getpid(), signal.SIGTERM)
            raise torch.OutOfMemoryError("CUDA out of memory.")

        RunTrainer.compute_loss = refused

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, too_small) == 75
    assert json.loads(run.exit_file.read_text())["state"] == "stopped"


def test_out_of_memory_outside_training_is_said_in_words(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def too_small() -> None:
        import engine.stages

        def refused(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        engine.stages.load_model = refused

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, too_small) == 1
    failure = events_of(run, "worker.failed")[-1]
    assert failure["code"] == "worker.out_of_memory"
    assert "2.00 GiB" in failure["message"]
    assert failure["fix"]


def test_a_device_fault_while_measuring_starts_over_once(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def broken() -> None:
        import engine.training.run

        def failing(*_: object, **__: object) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        engine.training.run.measure = failing
        engine.worker.restart_process = lambda *_: os._exit(99)

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, broken) == 99
    assert "while the model of step 0 was measured" in events_of(run, "notice.raised")[-1]["message"]


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_curve(
    tmp_path: Path, tiny_model_folder: Path, commands: Path
):
    def too_small() -> None:
        without_evaluation()
        original = RunTrainer.compute_loss

        def limited(self, model, inputs, *arguments, **keywords):
            if self.state.global_step == 5 and len(inputs["input_ids"]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return original(self, model, inputs, *arguments, **keywords)

        RunTrainer.compute_loss = limited

    recipe = made_recipe(
        tiny_model_folder, commands, training={"max_steps": 8, "micro_batch": 4}, evaluation={"generate_rows": 1}
    )
    straight = make_run(tmp_path / "straight", recipe)
    assert carry(straight, without_evaluation) == 0
    run = make_run(tmp_path / "run", recipe)
    worker = ForkedWorker(run, too_small)
    assert worker.wait() == 0, worker.log()[-3000:]
    first, second = events_of(run, "training.started")
    assert (first["micro_batch"], first["accumulation"]) == (4, 1)
    assert (second["micro_batch"], second["accumulation"], second["start_step"]) == (2, 2, 5)
    notice = next(event for event in events_of(run, "notice.raised") if event["code"] == "training.out_of_memory")
    assert "2 rows at a time" in notice["message"]
    expected, found = loss_curve(straight), loss_curve(run)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_same_device_fault_at_the_same_step_stops(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def broken() -> None:
        without_evaluation()
        original = RunTrainer.compute_loss

        def failing(self, *arguments, **keywords):
            if self.state.global_step == 3:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return original(self, *arguments, **keywords)

        RunTrainer.compute_loss = failing
        # The fresh process would not have the fault; being carried on in the same one shows the decision.
        engine.worker.restart_process = lambda *_: os._exit(99)

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands))
    assert carry(run, broken) == 99

    def broken_again() -> None:
        broken()
        # As the restarted program does: the fault before it is not forgiven.
        begin = engine.worker.begin_attempt
        engine.worker.begin_attempt = lambda run, restarted: begin(run, restarted=True)

    assert carry(run, broken_again) == 1
    failure = events_of(run, "worker.failed")[-1]
    assert failure["code"] == "training.device_failed"
    assert "step 4" in failure["message"]
    assert "commands.jsonl:" in failure["message"]


def test_a_failing_metric_does_not_stop_training(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def broken() -> None:
        import engine.training.run

        def fail(*_: object, **__: object) -> None:
            raise ValueError("no such metric")

        engine.training.run.measure = fail

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands, evaluate_every=5))
    worker = ForkedWorker(run, broken)
    assert worker.wait() == 0, worker.log()[-3000:]
    assert max(loss_curve(run)) == STEPS
    assert "no such metric" in events_of(run, "notice.raised")[0]["message"]


def test_a_full_disk_at_a_checkpoint_does_not_stop_training(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def full() -> None:
        without_evaluation()
        original = CheckpointStore.commit

        def refused(self, staging, step, facts):
            if step == 4:
                (staging / "weights.safetensors").unlink()
                (staging / "weights.safetensors").symlink_to("/nowhere")
            return original(self, staging, step, facts)

        CheckpointStore.commit = refused

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands, max_steps=6))
    assert carry(run, full) == 0
    assert 4 not in [event["step"] for event in events_of(run, "checkpoint.committed")]
    assert "Training goes on" in " ".join(event["message"] for event in events_of(run, "notice.raised"))


def test_the_second_interrupt_leaves_at_once(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def slow() -> None:
        without_evaluation()
        original = CheckpointStore.commit

        def waiting(self, *arguments):
            time.sleep(30)
            return original(self, *arguments)

        CheckpointStore.commit = waiting

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands, checkpoint_every=1000))
    worker = ForkedWorker(run, slow)
    worker.wait_for(lambda: len(loss_curve(run)) >= 2)
    worker.send(signal.SIGINT)
    worker.wait_for(lambda: any(run.checkpoints_folder.glob(".staging-*")))
    worker.send(signal.SIGINT)
    assert worker.wait() == 75
    assert not run.exit_file.exists()


def test_damaged_weights_of_the_base_are_the_persons_doing(tmp_path: Path, commands: Path):
    model = save_tiny_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    run = make_run(tmp_path / "run", made_recipe(model, commands))
    assert carry(run) == 2
    assert json.loads(run.exit_file.read_text())["state"] == "failed"
    assert "model.safetensors" in events_of(run, "worker.failed")[-1]["message"]


def test_a_run_killed_after_training_is_only_finished(tmp_path: Path, tiny_model_folder: Path, commands: Path):
    def killed_at_export() -> None:
        without_evaluation()
        import engine.stages

        engine.stages.export_run = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

    run = make_run(tmp_path / "run", quick_recipe(tiny_model_folder, commands, max_steps=4))
    assert carry(run, killed_at_export) == -signal.SIGKILL
    steps = len(events_of(run, "step.logged"))
    assert carry(run, without_evaluation) == 0
    assert len(events_of(run, "step.logged")) == steps == 4
    assert events_of(run, "training.started")[-1]["start_step"] == 4
    assert (run.model_folder / "adapter" / "adapter_model.safetensors").exists()
