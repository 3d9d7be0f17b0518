"""A sweep over learning rates on a small task: its suggestion trains better than ten times less and more."""

import math
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from engine.catalog.objectives import OBJECTIVES, Objective
from engine.objectives.build import BuiltTrainer, make_examples, make_trainer
from engine.planning.plan import Plan
from engine.planning.rate_curve import RatePoint, advise, sweep_rates
from engine.planning.rate_search import RateSearch, refuse_impossible
from engine.recipe.problems import ProblemError
from engine.training.batching import Batching
from engine.training.order import FixedOrder
from engine.training.rate_sweep import _Follower, run_sweep, sweep_steps, untouched_loss
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import loss_curve, made_plan, made_recipe, write_rows
from tests.engine.tiny_models import command_rows, save_tiny_model

FULL = {"name": "full", "rank": None, "alpha": None, "dropout": None, "targets": None}
USUAL = 2e-3


def built_sweep(folder: Path, num_steps: int, **training: Any) -> BuiltTrainer:
    usual = {"max_steps": num_steps, "micro_batch": 8, "effective_batch": 8}
    context = made_context(folder, made_recipe("model", "data", method=FULL, training=usual | training), num_rows=64)
    sequences = make_examples(context.recipe, context.task, context.rendered, 64)
    built = make_trainer(
        context.recipe,
        context.task,
        context.plan.device,
        Batching(8, 1),
        sequences,
        model=context.model,
        tokenizer=context.tokenizer,
        folder=context.run.checkpoints_folder,
    )
    built.trainer.order = FixedOrder(sweep_steps(len(sequences), 8, 8, 17))
    return built


def swept(folder: Path, **training: Any) -> list[RatePoint]:
    points: list[RatePoint] = []
    rates = sweep_rates(USUAL)
    run_sweep(built_sweep(folder, len(rates), **training), rates, points.append)
    return points


def final_loss(folder: Path, rate: float) -> float:
    """Return the loss at the end of a short run, infinite when it broke."""
    training = {"learning_rate": rate, "max_steps": 40, "effective_batch": 8, "micro_batch": 8, "warmup": 0.1}
    context = made_context(folder, made_recipe("model", "data", method=FULL, training=training), num_rows=64)
    train(context)
    losses = list(loss_curve(context.run).values())
    assert len(losses) == 40
    return sum(losses[-5:]) / 5


def test_the_suggestion_trains_better_than_ten_times_less_and_does_not_break_as_ten_times_more_does(
    tmp_path: Path,
) -> None:
    advice = advise(swept(tmp_path / "sweep"))
    assert advice.rate is not None, advice.reason
    suggested = final_loss(tmp_path / "suggested", advice.rate)
    assert suggested < 0.8 * final_loss(tmp_path / "low", advice.rate / 10)
    assert suggested < 0.8 * final_loss(tmp_path / "high", min(0.9, 10 * advice.rate))


def test_a_sweep_begins_at_the_untouched_loss(tmp_path: Path) -> None:
    points = swept(tmp_path / "sweep")
    built = built_sweep(tmp_path / "again", 80)
    before = [untouched_loss(built, step) for step in range(80)]
    assert points[0].loss == pytest.approx(sum(before) / 80, rel=1e-4)
    assert all(math.isfinite(point.loss) for point in points)


@pytest.mark.parametrize(
    ("changes", "ends_at"),
    [
        ([0.0, -1.0, -2.0, *[-3.0] * 10, *[0.0] * 20], 17),
        ([0.0, -1.0, -2.0, *[-3.0] * 10, 9.0], 13),
        ([0.0, -1.0, -2.0, math.nan], 3),
        ([0.0, -1.0, -2.0, *[-3.0] * 30], None),
        ([0.0, *[-3.0] * 6, 0.0, *[-3.0] * 20], None),
        ([0.01, -0.01] * 20, None),
    ],
)
def test_a_sweep_ends_once_it_has_lost_what_it_had_gained(changes: list[float], ends_at: int | None) -> None:
    follower = _Follower([1e-4] * len(changes), [5.0] * len(changes), lambda _: None)
    broken = [place for place, change in enumerate(changes) if follower._broken(5.0 + change, change)]
    assert (broken[0] if broken else None) == ends_at


def test_an_untouched_loss_does_not_depend_on_the_cut(tmp_path: Path) -> None:
    built = built_sweep(tmp_path / "sweep", 2)
    rows = built.trainer.order.rows_of_step(0)
    whole = untouched_loss(built, 0)
    built.trainer.order = FixedOrder([[[row] for row in rows]])
    assert untouched_loss(built, 0) == pytest.approx(whole, rel=1e-4)


def test_steps_read_every_row_before_any_twice() -> None:
    steps = sweep_steps(20, 2, 4, seed=3)
    rows = [row for step in steps for micro in step for row in micro]
    assert len(steps) == 80
    assert all(len(micro) == 2 for step in steps for micro in step)
    assert sorted(rows[:20]) == list(range(20))
    assert sweep_steps(20, 2, 4, seed=3) == steps
    assert sweep_steps(20, 2, 4, seed=4) != steps


def plan_on_disk(folder: Path) -> Plan:
    save_tiny_model(folder / "model")
    data = write_rows(folder / "rows.jsonl", command_rows(24))
    training = {"learning_rate": USUAL, "max_steps": 6}
    return made_plan(made_recipe(folder / "model", data, training=training))


def test_the_process_sweeps_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    plan = plan_on_disk(tmp_path)
    model = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()}
    search = RateSearch(plan, tmp_path / "home" / "cache")
    points = list(search.points())
    assert len(points) > 20
    assert points[0].rate == pytest.approx(USUAL / 100)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "model").iterdir()} == model
    assert not list((tmp_path / "tmp").glob("ftwizard-rate-*"))
    assert not (tmp_path / "home" / "runs").exists()


def test_a_cancelled_sweep_ends_its_process(tmp_path: Path) -> None:
    search = RateSearch(plan_on_disk(tmp_path), tmp_path / "cache")
    pid = search._process.pid
    search.cancel()
    with pytest.raises(ProblemError) as caught:
        list(search.points())
    assert caught.value.problems[0].code == "rate.cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_sweep_that_was_killed_says_so(tmp_path: Path) -> None:
    search = RateSearch(plan_on_disk(tmp_path), tmp_path / "cache")
    os.kill(search._process.pid, signal.SIGKILL)
    with pytest.raises(ProblemError) as caught:
        list(search.points())
    assert "memory" in caught.value.problems[0].message


def test_a_sweep_ends_with_whoever_asked(tmp_path: Path) -> None:
    search = RateSearch(plan_on_disk(tmp_path), tmp_path / "cache")
    assert search._process.stdin is not None
    search._process.stdin.close()
    ends = time.monotonic() + 60
    while search._process.poll() is None:
        assert time.monotonic() < ends
        time.sleep(0.05)
    search.close()


def test_what_cannot_be_swept_is_refused_before_a_process_starts(tmp_path: Path) -> None:
    plan = plan_on_disk(tmp_path)
    elsewhere = plan.model_copy(update={"model": plan.model.model_copy(update={"download_bytes": 5})})
    with pytest.raises(ProblemError) as caught:
        RateSearch(elsewhere, tmp_path / "cache")
    assert caught.value.problems[0].code == "rate.not_here"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_only_what_learns_from_its_own_answers_has_no_loss_to_sweep(objective: Objective) -> None:
    plan = made_plan(made_recipe("model", "rows.jsonl"))
    plan = plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"objective": objective.name})})
    if objective.name != "reinforcement-learning":
        refuse_impossible(plan)
        return
    with pytest.raises(ProblemError) as caught:
        refuse_impossible(plan)
    assert caught.value.problems[0].code == "rate.no_loss"


def test_a_process_that_cannot_start_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "cache").write_text("a file where the folder would be")
    with pytest.raises(ProblemError):
        RateSearch(made_plan(made_recipe(tmp_path, "rows.jsonl")), tmp_path / "cache")
    assert not list((tmp_path / "scratch").iterdir())
