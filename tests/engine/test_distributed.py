"""Runs that several processes share: the same losses as with one, and none left behind however one of them ends.

There is no GPU here: the processes compute on the CPU and speak through gloo. What they do is the same.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.runs.directory import RunDirectory
from engine.runs.launch import worker_environment
from engine.training import ranks
from engine.training.batching import Batching, halved, shared_by
from engine.training.faults import Fault
from engine.training.order import StepOrder
from engine.training.recovery import Attempts, decide, going_on
from engine.training.trainer import RunTrainer
from tests.engine.forked import ForkedWorker, carry
from tests.engine.forked_ranks import carry_attempts, fork_ranks, nothing, without_measuring
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows

STEPS = 12
ROWS = 37


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path):
    # 33 rows to train on, 9 steps an epoch: the last one has a single row, so that one process has nothing to do.
    return made_recipe(
        tiny_model_folder,
        write_rows(tmp_path_factory.mktemp("data") / "commands.jsonl", command_rows(ROWS)),
        # Checks before the first step take micro-steps too.
        training={
            "max_steps": STEPS,
            "micro_batch": 1,
            "effective_batch": 4,
            "evaluate_every": 5,
            "preflight": "off",
        },
        evaluation={"generate_rows": 1, "max_new_tokens": 2},
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, recipe) -> dict[int, float]:
    """Return the losses of one process."""
    run = make_run(tmp_path_factory.mktemp("alone") / "run", recipe, total_steps=STEPS)
    assert carry(run, without_measuring) == 0
    assert len(loss_curve(run)) == STEPS
    return loss_curve(run)


def shared_run(folder: Path, recipe) -> RunDirectory:
    return make_run(folder, recipe, total_steps=STEPS, num_gpus=2)


def approx(losses: dict[int, float]):
    """Return losses that are the same up to the order of sums."""
    return pytest.approx(losses, rel=1e-4)


def notices(run: RunDirectory, code: str) -> list[str]:
    return [event["message"] for event in events_of(run, "notice.raised") if event["code"] == code]


def at_micro_step(number: int, marker: Path, act: Callable[[], None]) -> Callable[[], None]:
    """Return a fault that happens once in a run, when a process has begun so many micro-steps."""

    def inject() -> None:
        # A process that is forked from this one is another.
        original, seen, here = RunTrainer.training_step, [], os.getpid()

        def failing(self, *arguments, **keywords):
            seen.append(1)
            if len(seen) == number and os.getpid() == here and not marker.exists():
                marker.touch()
                act()
            return original(self, *arguments, **keywords)

        RunTrainer.training_step = failing

    return inject


def test_two_programs_give_the_losses_of_one(tmp_path: Path, recipe, alone):
    run = shared_run(tmp_path / "run", recipe)
    with run.log_file.open("ab") as log:
        command = [sys.executable, "-P", "-m", "engine.worker", str(run.path)]
        subprocess.run(command, stdout=log, stderr=log, env=worker_environment(), check=True, timeout=240)
    [started] = events_of(run, "training.started")
    assert (started["micro_batch"], started["accumulation"], started["num_gpus"]) == (1, 2, 2)
    assert loss_curve(run) == approx(alone)
    assert [event["phase"] for event in events_of(run, "evaluation.completed")][:2] == ["before", "during"]
    assert events_of(run, "run.ended")[-1]["exit_code"] == 0


def test_a_process_that_is_killed_costs_no_step(tmp_path: Path, recipe, alone):
    run = shared_run(tmp_path / "run", recipe)
    kill = at_micro_step(9, tmp_path / "killed", lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert carry_attempts(run, in_rank=kill) == (0, 2)
    assert loss_curve(run) == approx(alone)
    assert len(events_of(run, "step.logged")) == STEPS
    assert [event["start_step"] for event in events_of(run, "training.started")] == [0, 4]
    [message] = notices(run, "training.rank")
    assert "go on together at step 5: the process of rank 1 was ended by SIGKILL" in message
    assert "start afresh from step 4" in message


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_memory_that_runs_out_in_another_process_halves_the_micro_batch_of_all(tmp_path: Path, recipe, alone):
    wide = recipe.model_copy(update={"training": recipe.training.model_copy(update={"micro_batch": 2})})
    run = shared_run(tmp_path / "run", wide)
    assert carry_attempts(run, in_rank=at_micro_step(3, tmp_path / "full", out_of_memory)) == (0, 2)
    assert loss_curve(run) == approx(alone)
    cuts = [(e["micro_batch"], e["accumulation"], e["num_gpus"]) for e in events_of(run, "training.started")]
    assert cuts == [(2, 1, 2), (1, 2, 2)]
    [message] = notices(run, "training.out_of_memory")
    assert "Out of memory at step 3 with 2 rows at a time" in message


def test_a_run_that_was_stopped_goes_on_with_any_number_of_processes(tmp_path: Path, recipe, alone):
    run = shared_run(tmp_path / "run", recipe)
    stop = at_micro_step(7, tmp_path / "stopped", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert carry_attempts(run, in_worker=stop) == (75, 1)
    # In its fourth step, whose other half another process computed.
    assert events_of(run, "checkpoint.committed")[-1]["step"] == 3
    elsewhere = RunDirectory(shutil.copytree(run.path, tmp_path / "elsewhere"))
    plan = elsewhere.read_plan()
    steps = plan.steps.model_copy(update={"num_gpus": 1, "accumulation": 4})
    elsewhere.plan_file.write_text(plan.model_copy(update={"steps": steps}).model_dump_json())
    for resumed, num_gpus in ((run, 2), (elsewhere, 1)):
        assert carry_attempts(resumed) == (0, 1)
        assert loss_curve(resumed) == approx(alone)
        last = events_of(resumed, "training.started")[-1]
        assert (last["start_step"], last["num_gpus"]) == (3, num_gpus)


def test_no_process_outlives_the_worker(tmp_path: Path, recipe):
    run = shared_run(tmp_path / "run", recipe)
    born = tmp_path / "born"
    worker = ForkedWorker(run, fork_ranks(nothing, lambda: born.write_text(str(os.getpid()))))
    worker.wait_for(lambda: len(loss_curve(run)) > 1)
    rank = os.pidfd_open(int(born.read_text()))
    worker.send(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    ForkedWorker.wait_for(_Ending(), lambda: _has_ended(rank))
    os.close(rank)


class _Ending:
    """A worker that is gone, to be waited with."""

    def poll(self) -> None:
        return None


def _has_ended(process: int) -> bool:
    try:
        signal.pidfd_send_signal(process, 0)
    except ProcessLookupError:
        return True
    return False


def test_where_no_other_process_starts_one_goes_on_alone(tmp_path: Path, recipe, alone):
    run = shared_run(tmp_path / "run", recipe)

    def fail() -> None:
        def refuse(*_: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        ranks.start_process = refuse

    assert carry_attempts(run, in_worker=fail) == (0, 2)
    assert loss_curve(run) == approx(alone)
    [message] = notices(run, "training.rank")
    assert "could not be started: Resource temporarily unavailable. The run goes on with one GPU" in message


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_ranks_share_the_micro_batches_of_a_step(num_ranks: int, micro_batch: int):
    lengths = [7 + (13 * row) % 29 for row in range(50)]
    orders = [
        StepOrder(lengths, effective_batch=12, micro_batch=micro_batch, seed=1, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]
    for step in (0, 4, 7):
        shares = [order.micro_batches(step) for order in orders]
        assert len({len(share) for share in shares}) == 1
        dealt = [share[place] for place in range(len(shares[0])) for share in shares]
        whole = orders[0].all_micro_batches(step)
        assert dealt[: len(whole)] == whole
        assert not any(dealt[len(whole) :])
    assert len({len(order) for order in orders}) == 1
    assert len(list(orders[-1])) == len(orders[-1])


def test_the_effective_batch_survives_every_change():
    batching = Batching(4, 2, 4)
    assert halved(batching, 32) == Batching(2, 4, 4)
    assert shared_by(batching, 1, 32) == Batching(4, 8, 1)
    assert shared_by(batching, 3, 32) == Batching(4, 3, 3)


def test_a_process_that_is_lost_twice_leaves_one_gpu():
    fault = Fault("rank", 5, [], "the process of GPU 1 was ended by SIGKILL", True, kept_step=4)
    attempts = Attempts()
    again = decide(fault, attempts, Batching(4, 1, 4), 16)
    assert again == Batching(4, 1, 4)
    assert "start afresh from step 4" in going_on(fault, again, again)
    alone = decide(fault, attempts, again, 16)
    assert alone == attempts.batching == Batching(4, 4, 1)
    assert "goes on with one GPU: 4 rows at a time and 4 micro-batches" in going_on(fault, again, alone)


def test_stages_open_in_every_process_and_memory_that_runs_out_between_them_costs_no_step(tmp_path: Path, recipe):
    method = recipe.method.model_copy(update={"name": "gradual-unfreezing", "unfreeze_every": 4, "layers_per_stage": 1})
    training = recipe.training.model_copy(update={"micro_batch": 2, "learning_rate": 1e-3})
    staged = recipe.model_copy(update={"method": method, "training": training})
    one = make_run(tmp_path / "one", staged, total_steps=STEPS)
    assert carry(one, without_measuring) == 0
    run = shared_run(tmp_path / "run", staged)
    assert carry_attempts(run, in_rank=at_micro_step(6, tmp_path / "full", out_of_memory)) == (0, 2)
    assert loss_curve(run) == approx(loss_curve(one))
    assert [event["start_step"] for event in events_of(run, "training.started")] == [0, 5]
    for each in (one, run):
        assert {event["step"]: event["stage"] for event in events_of(each, "stage.opened")} == {0: 1, 4: 2, 8: 3}
