"""What a run teaches about its machine: its speed, and on a GPU how far the rehearsed peak was off."""

from pathlib import Path
from typing import Any

import pytest

from engine.objectives.build import build_trainer
from engine.planning import calibration_store
from engine.planning.case import setup_of
from engine.planning.duration import STEP_OVERHEAD_S, step_flops, width_share
from engine.planning.plan import Device
from engine.runs.picture import Picture
from engine.training import calibrate
from engine.training.calibrate import MachineLog, learn_from_run, measured_flops, run_ratio
from engine.training.context import RunContext
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, made_recipe

MIB = 2**20


@pytest.fixture
def context(tmp_path: Path) -> RunContext:
    made = made_context(tmp_path / "run", made_recipe("made/base", "rows.jsonl", training={"micro_batch": 2}))
    made.order = build_trainer(made).order
    return made


def timed(steps: range, step_s: float) -> Picture:
    picture = Picture()
    picture.speed_window.extend((step, 10.0 + step * step_s) for step in steps)
    return picture


def test_the_speed_of_a_run_is_its_operations_over_its_time(context: RunContext) -> None:
    order = context.order
    assert order is not None
    rates = measured_flops(context, timed(range(1, 21), 2.0))
    tokens = sum(order.padded_tokens_of_step(step) for step in range(2, 20)) / 18
    computing_s = 2.0 - context.batching.accumulation * STEP_OVERHEAD_S["cpu"]
    expected = step_flops(context.plan.model, setup_of(context.plan), tokens) / computing_s
    assert rates is not None
    assert rates["float32"] == pytest.approx(expected / width_share("cpu", 32))


@pytest.mark.parametrize("picture", [timed(range(1, 6), 2.0), timed(range(1, 21), 0.001), Picture()])
def test_few_or_short_steps_say_nothing_of_the_speed(picture: Picture, context: RunContext) -> None:
    assert measured_flops(context, picture) is None


def test_a_run_without_training_says_nothing_of_the_speed(context: RunContext) -> None:
    context.order = None
    assert measured_flops(context, timed(range(1, 21), 2.0)) is None


def on_gpu(context: RunContext, monkeypatch: pytest.MonkeyPatch, peak: int | None, **memory: Any) -> None:
    # The highest peak of all is not that of training.
    settings = {"depth": "simulated", "allocated_bytes": 130 * MIB, "peaks": {"training": 100 * MIB}, **memory}
    estimate = context.plan.memory.model_copy(update=settings)
    context.plan = context.plan.model_copy(update={"device": Device(kind="cuda"), "memory": estimate})
    context.memory.tensor_peaks = {"loading": 200 * MIB} | ({} if peak is None else {"training": peak})


def test_a_run_on_a_gpu_compares_its_peak_with_the_rehearsed_one(
    context: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu(context, monkeypatch, 103 * MIB)
    assert run_ratio(context, Picture()) == pytest.approx(1.03)


@pytest.mark.parametrize(
    ("peak", "memory", "micro_batch", "probed"),
    [
        (None, {}, 2, {}),
        (103 * MIB, {"depth": "formula"}, 2, {}),
        (103 * MIB, {"peaks": {"merging": 130 * MIB}}, 2, {}),
        (103 * MIB, {}, 1, {}),
        (103 * MIB, {}, 2, {"ratio": 1.01}),
    ],
    ids=["processor", "formula", "training not rehearsed", "halved since", "the probe compared"],
)
def test_nothing_is_compared_that_was_not_predicted(
    peak: int | None,
    memory: dict[str, Any],
    micro_batch: int,
    probed: dict[str, Any],
    context: RunContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu(context, monkeypatch, peak, **memory)
    context.batching = type(context.batching)(micro_batch, 4 // micro_batch)
    assert run_ratio(context, Picture(probed=probed)) is None


def test_what_was_learnt_is_known_to_the_next_run(context: RunContext, tmp_path: Path) -> None:
    log = MachineLog(Device(kind="cpu"), context.events, tmp_path / "cache")
    assert log.known() is None
    log.learn()
    assert not (tmp_path / "cache").exists(), "nothing to keep, nothing to write"
    log.learn(context_bytes=500 * MIB, flops={"float32": 1e11})
    known = MachineLog(Device(kind="cpu"), context.events, tmp_path / "cache").known()
    assert known is not None
    assert (known.context_bytes, known.flops) == (500 * MIB, {"float32": 1e11})
    assert "torch" in known.key.packages


def test_a_store_that_cannot_be_written_is_a_note(context: RunContext, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    MachineLog(Device(kind="cpu"), context.events, tmp_path / "cache").learn(memory_ratio=1.0)
    (notice,) = events_of(context.run, "notice.raised")
    assert (notice["severity"], notice["code"]) == ("note", "disk.failed")


def test_a_run_leaves_its_speed_behind(context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    picture = timed(range(1, 21), 2.0)
    monkeypatch.setattr(calibrate, "open_picture", lambda run: (picture, None))
    learn_from_run(context)
    key = MachineLog(context.plan.device, context.events).key
    known = calibration_store.read(tmp_path / "home" / "cache", key)
    assert known is not None
    assert known.flops == measured_flops(context, picture)
    assert known.memory_ratios == []
