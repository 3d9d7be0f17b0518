"""The client of the rehearsal process: one at a time, newest wins, nothing hangs, answers are kept."""

import asyncio
import sys
import threading
import time

import pytest

from engine.planning import rehearse
from engine.planning.calibration import Calibration, MachineKey
from engine.planning.memory import CUDA_CONTEXT_BYTES
from engine.planning.plan import Device
from engine.planning.rehearsal import RehearsalResult
from engine.planning.rehearse import Rehearsals, rehearsal_key
from engine.planning.rehearsed import estimate_from, not_rehearsed
from engine.recipe.problems import Problem, ProblemError
from tests.engine.made_plan import made_plan

GIB = 2**30
ANSWER = """
import json, sys
request = json.loads(sys.stdin.readline())
result = {"key": request["key"], "device_kind": "cpu", "peaks": {"training": 7}, "peak_phase": "training",
          "components": {"activations": 7}, "num_layers": 2, "cpu_s": 0.1}
print(json.dumps({"result": result}), flush=True)
"""
WAIT = "import sys; sys.stdin.read()"
PROBLEM = """
import json, sys
sys.stdin.readline()
print(json.dumps({"problems": [{"code": "rehearsal.cannot", "message": "No."}]}), flush=True)
"""


@pytest.fixture
def process(monkeypatch):
    """Return a function that sets the program of the rehearsal process."""

    def use(program):
        monkeypatch.setattr(rehearse, "COMMAND", [sys.executable, "-c", program])

    return use


def code_of(call):
    with pytest.raises(ProblemError) as caught:
        call()
    return caught.value.problems[0].code


def longer(plan):
    training = plan.recipe.training.model_copy(update={"max_length": 256})
    return plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"training": training})})


def test_answer_is_kept_for_the_same_plan_only(tmp_path, process):
    process(ANSWER)
    plan, rehearsals = made_plan(), Rehearsals(tmp_path)
    assert rehearsals.cached(plan) is None
    assert rehearsals.of_blocking(plan).peaks == {"training": 7}
    process("raise SystemExit(3)")
    assert rehearsals.of_blocking(plan).key == rehearsal_key(plan)
    assert rehearsals.cached(longer(plan)) is None
    assert (tmp_path / rehearse.FOLDER).stat().st_mode & 0o777 == 0o700


def test_awaiting_gives_the_same(tmp_path, process):
    process(ANSWER)
    assert asyncio.run(Rehearsals(tmp_path).of(made_plan())).components == {"activations": 7}


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"activation_checkpointing": True}},
        {"training": {"optimizer": "adamw_8bit"}},
        {"method": {"rank": 8}},
        {"evaluation": {"max_new_tokens": 99}},
        {"delivery": {"merge": False}},
    ],
)
def test_key_depends_on_what_decides_on_memory(change):
    assert rehearsal_key(made_plan(recipe=change)) != rehearsal_key(made_plan())


def test_key_does_not_depend_on_the_rest():
    assert rehearsal_key(made_plan(recipe={"training": {"learning_rate": 1e-3}, "name": "x"})) == rehearsal_key(
        made_plan()
    )


def test_newer_plan_replaces_the_older(tmp_path, process):
    process(WAIT)
    rehearsals, codes = Rehearsals(tmp_path), []
    older = threading.Thread(target=lambda: codes.append(code_of(lambda: rehearsals.of_blocking(made_plan()))))
    older.start()
    wait_for(lambda: rehearsals._current is not None)
    process(ANSWER)
    assert rehearsals.of_blocking(longer(made_plan())).peaks == {"training": 7}
    older.join(10)
    assert codes == ["rehearsal.replaced"]


def test_cancelled_task_ends_the_process(tmp_path, process):
    process(WAIT)
    rehearsals = Rehearsals(tmp_path)

    async def start_and_cancel():
        task = asyncio.create_task(rehearsals.of(made_plan()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(start_and_cancel())
    wait_for(lambda: rehearsals._current._process.poll() is not None)


def test_one_of_two_waiting_tasks_can_be_cancelled(tmp_path, process):
    gate = tmp_path / "gate"
    opened = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\n"
    process(opened + ANSWER)
    rehearsals = Rehearsals(tmp_path / "cache")

    async def both():
        gone, kept = (asyncio.create_task(rehearsals.of(made_plan())) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        gate.touch()
        return await kept

    assert asyncio.run(both()).peaks == {"training": 7}


def test_a_cancelled_plan_can_be_asked_for_again_at_once(tmp_path, process):
    process(WAIT)
    rehearsals = Rehearsals(tmp_path)

    async def cancel_and_ask():
        task = asyncio.create_task(rehearsals.of(made_plan()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        process(ANSWER)
        return await rehearsals.of(made_plan())

    assert asyncio.run(cancel_and_ask()).peaks == {"training": 7}


def test_components_too_small_to_be_seen_are_slack():
    parts = {"model weights": 4 * GIB, "temporary": 4, "output layer and loss": 16, "activations": GIB}
    whole = estimate_from(found(components={"model weights": 4 * GIB, "activations": GIB + 20}), made_plan())
    estimate = estimate_from(found(components=parts), made_plan())
    assert not {"temporary", "output layer and loss", "small parts"} & set(estimate.components)
    assert estimate.components["slack"] == whole.components["slack"] + 20


def test_many_small_components_are_one():
    parts = {"model weights": 4 * GIB, **{f"part {n}": GIB // 600 for n in range(5)}}
    estimate = estimate_from(found(components=parts), made_plan())
    assert estimate.components["small parts"] == 5 * (GIB // 600)


def test_closing_ends_the_process(tmp_path, process):
    process(WAIT)
    rehearsals, codes = Rehearsals(tmp_path), []
    waiting = threading.Thread(target=lambda: codes.append(code_of(lambda: rehearsals.of_blocking(made_plan()))))
    waiting.start()
    wait_for(lambda: rehearsals._current is not None)
    rehearsals.close()
    waiting.join(10)
    assert codes == ["rehearsal.replaced"]


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import os; os.abort()", "rehearsal.ended"),
        ("print('{\"result\": ', end='')", "rehearsal.ended"),
        ("print('a library says hello')", "rehearsal.unreadable"),
        ("print('[1]')", "rehearsal.unreadable"),
        ('print(\'{"result": {"key": 3}}\')', "rehearsal.unreadable"),
        ('print(\'{"problems": [{"colour": "red"}]}\')', "rehearsal.unreadable"),
        (PROBLEM, "rehearsal.cannot"),
    ],
)
def test_process_that_fails_is_a_problem(tmp_path, process, program, code):
    process(program)
    assert code_of(lambda: Rehearsals(tmp_path).of_blocking(made_plan())) == code


def test_process_that_hangs_is_given_up(tmp_path, process):
    process(WAIT)
    assert code_of(lambda: Rehearsals(tmp_path, timeout_s=0.2).of_blocking(made_plan())) == "rehearsal.timeout"


def test_a_fault_of_ours_reaches_whoever_waits(tmp_path, process, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("ours")

    process(ANSWER)
    monkeypatch.setattr(rehearse, "_keep", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        Rehearsals(tmp_path).of_blocking(made_plan())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path, process):
    process(ANSWER)
    (tmp_path / rehearse.FOLDER).write_text("a file in the way")
    assert Rehearsals(tmp_path).of_blocking(made_plan()).peaks == {"training": 7}


COMPUTE = """
import json, sys
from engine.rehearsal.__main__ import limit_processor_time
limit_processor_time(json.loads(sys.stdin.readline())["cpu_limit_s"])
while True:
    pass
"""


def test_process_that_computes_too_long_is_given_up(tmp_path, process):
    process(COMPUTE)
    with pytest.raises(ProblemError) as caught:
        Rehearsals(tmp_path, cpu_limit_s=1).of_blocking(made_plan())
    assert caught.value.problems[0].code == "rehearsal.timeout"
    assert "1 s of processor time" in caught.value.problems[0].message


def test_answer_to_another_plan_is_no_answer(tmp_path, process):
    process(ANSWER)
    plan, rehearsals = made_plan(), Rehearsals(tmp_path)
    rehearsals.of_blocking(plan)
    folder = tmp_path / rehearse.FOLDER
    (folder / f"{rehearsal_key(plan)}.json").rename(folder / f"{rehearsal_key(longer(plan))}.json")
    assert rehearsals.cached(longer(plan)) is None


def test_result_without_its_own_peak_is_refused():
    with pytest.raises(ValueError, match="no peak of the phase saving"):
        found(peak_phase="saving")


def test_damaged_cache_is_no_answer(tmp_path, process):
    process(ANSWER)
    plan, rehearsals = made_plan(), Rehearsals(tmp_path)
    rehearsals.of_blocking(plan)
    (tmp_path / rehearse.FOLDER / f"{rehearsal_key(plan)}.json").write_text('{"key": 3')
    assert rehearsals.cached(plan) is None


def found(kind="cuda", **changes):
    facts = {
        "key": "k",
        "device_kind": kind,
        "peaks": {"training": 10 * GIB, "evaluation": 8 * GIB},
        "peak_phase": "training",
        "components": {"model weights": 6 * GIB, "activations": 4 * GIB},
        "reserved_low_bytes": 11 * GIB,
        "reserved_high_bytes": 12 * GIB,
        "smallest_card_bytes": 11 * GIB,
        "num_layers": 4,
        "cpu_s": 1.0,
    }
    return RehearsalResult(**facts | changes)


def test_gpu_estimate_holds_context_and_slack():
    estimate = estimate_from(found(), made_plan())
    assert estimate.depth == "simulated"
    assert estimate.components["CUDA context"] == CUDA_CONTEXT_BYTES
    assert estimate.components["slack"] == GIB
    assert sum(estimate.components.values()) == estimate.expected_bytes
    assert estimate.low_bytes < estimate.expected_bytes < estimate.high_bytes
    assert estimate.high_bytes >= 1.08 * 11 * GIB + CUDA_CONTEXT_BYTES
    assert estimate.allocated_bytes == 10 * GIB
    assert estimate.smallest_card_bytes == 11 * GIB + CUDA_CONTEXT_BYTES


def test_what_was_not_rehearsed_of_several_gpus_is_said():
    alone = made_plan()
    steps = alone.steps.model_copy(update={"num_gpus": 2})
    estimate, one = (estimate_from(found(), plan) for plan in (alone.model_copy(update={"steps": steps}), alone))
    assert estimate.confidence == "low"
    assert any("links between GPUs" in note for note in estimate.notes)
    assert estimate.high_bytes > one.high_bytes
    assert (one.confidence, one.notes) == ("normal", [])


def test_measurements_narrow_the_estimate():
    key = MachineKey(device="GPU")
    measured = Calibration(key=key, context_bytes=GIB // 2, memory_ratios=[1.0, 1.01, 0.99, 1.0, 1.0, 1.0, 1.0])
    narrow, wide = (estimate_from(found(), made_plan(), item) for item in (measured, None))
    assert narrow.high_bytes - narrow.low_bytes < wide.high_bytes - wide.low_bytes
    assert narrow.components["CUDA context"] == GIB // 2


def test_processor_estimate_holds_process_and_holes():
    card = {"reserved_low_bytes": None, "reserved_high_bytes": None, "smallest_card_bytes": None}
    estimate = estimate_from(found("cpu", **card), made_plan())
    assert estimate.components["process"] > 0
    assert estimate.components["slack"] > 0
    assert estimate.smallest_card_bytes is None


def test_a_merged_model_leaves_no_holes_and_training_below_it_does():
    peaks = {"training": 3 * GIB, "merging": 4 * GIB}
    card = {"reserved_low_bytes": None, "reserved_high_bytes": None, "smallest_card_bytes": None}
    parts = {"model weights": GIB, "merged model": 3 * GIB}
    merged = found("cpu", peaks=peaks, peak_phase="merging", components=parts, **card)
    estimate = estimate_from(merged, made_plan())
    # Half of what moves in training, which is nearly all of its 3 GiB here, beside the 4 GiB of merging.
    assert 0.4 * GIB < estimate.components["slack"] < 0.6 * GIB
    alone = found("cpu", peaks={"merging": 4 * GIB}, peak_phase="merging", components=parts, **card)
    assert estimate_from(alone, made_plan()).components["slack"] < 0.1 * GIB


def test_what_was_not_rehearsed_stays_a_formula_of_low_confidence():
    plan = made_plan().model_copy(update={"device": Device(kind="cuda")})
    estimate = not_rehearsed(plan, ProblemError(Problem("rehearsal.cannot", "It cannot be rehearsed.")))
    assert (estimate.depth, estimate.confidence) == ("formula", "low")
    assert "It cannot be rehearsed." in estimate.notes


def wait_for(predicate, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
