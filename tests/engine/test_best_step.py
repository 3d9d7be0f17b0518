"""The best step is kept and becomes the result; a run without progress ends early, also across a stop and a resume."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import engine.training.run
from engine.evaluation.measurement import Measurement, save_measurement
from engine.recipe.schema_training import TrainingSection
from engine.runs.best_words import best_sentence, early_end_sentence
from engine.runs.reducer import Picture
from engine.training.best import BestStep
from engine.training.checkpoints import learnt_tensors
from engine.training.context import RunContext
from engine.training.interrupt import StopRequested
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, made_recipe
from tests.engine.test_training_resume import stop_after_checkpoint

RISES = {1: 3.0, 2: 2.5, 3: 2.6, 4: 2.7, 5: 2.8, 6: 2.9}
FALLS = {1: 3.0, 2: 2.5, 3: 2.4, 4: 2.3, 5: 2.2, 6: 2.1}


def measured(step: int, **metrics: float) -> Measurement:
    return Measurement("during", step, metrics, [], 4, 40, 0, 0.0)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """Let evaluations during training find planted losses."""

    def planted(losses: dict[int, float]) -> None:
        def evaluate(context: RunContext, phase: str, step: int) -> None:
            save_measurement(measured(step, loss=losses[step]), context.run.evaluation_folder)
            context.events.write(
                "evaluation.completed",
                phase=phase,
                step=step,
                metrics={"loss": losses[step]},
                num_rows=4,
                elapsed_s=0.0,
            )

        monkeypatch.setattr(engine.training.run, "evaluate", evaluate)

    return planted


def context_of(folder: Path, **training: object) -> RunContext:
    usual = {"max_steps": 6, "evaluate_every": 1, "checkpoint_every": 100, "best_by": "loss", "early_stopping": 0}
    return made_context(folder, made_recipe("model", "data", training=usual | training))


def picture_of(context: RunContext) -> Picture:
    from engine.runs.events import EventReader

    picture = Picture()
    picture.apply_all(EventReader(context.run.events_file).poll())
    return picture


def in_memory(context: RunContext) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in learnt_tensors(context.model).items()}


def on_disk(context: RunContext, step: int) -> dict[str, torch.Tensor]:
    return load_file(context.run.checkpoints_folder / f"step-{step:06d}" / "weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_best_weights_are_put_back_at_the_end(tmp_path: Path, plant: Callable) -> None:
    plant(RISES)
    context = context_of(tmp_path / "run")
    train(context)
    assert same(in_memory(context), on_disk(context, 2))
    assert not same(in_memory(context), on_disk(context, 6))
    (restored,) = events_of(context.run, "best.restored")
    assert (restored["step"], restored["value"], restored["last_step"], restored["last_value"]) == (2, 2.5, 6, 2.9)
    assert [event["step"] for event in events_of(context.run, "best.changed")] == [1, 2]
    sentence = best_sentence(picture_of(context))
    assert sentence == ("Best at step 2: loss 2.50; the last step, 6, had 2.90. The result has the weights of step 2.")


def test_a_run_that_improves_to_its_end_keeps_its_last_step(tmp_path: Path, plant: Callable) -> None:
    plant(FALLS)
    context = context_of(tmp_path / "run", early_stopping=1)
    train(context)
    assert same(in_memory(context), on_disk(context, 6))
    assert not events_of(context.run, "best.restored")
    assert not events_of(context.run, "training.ended_early")
    assert best_sentence(picture_of(context)) == "Best at step 6: loss 2.10."
    assert early_end_sentence(picture_of(context)) == ""


def test_the_best_checkpoint_stays_beside_the_newest_ones(tmp_path: Path, plant: Callable) -> None:
    plant(RISES)
    context = context_of(tmp_path / "run", checkpoint_every=1)
    train(context)
    kept = sorted(path.name for path in context.run.checkpoints_folder.glob("step-*"))
    assert kept == ["step-000002", "step-000005", "step-000006"]


def test_training_ends_when_nothing_got_better_for_long(tmp_path: Path, plant: Callable) -> None:
    plant(RISES)
    context = context_of(tmp_path / "run", early_stopping=3)
    train(context)
    (ended,) = events_of(context.run, "training.ended_early")
    assert (ended["step"], ended["total_steps"], ended["waited"], ended["best_step"]) == (5, 6, 3, 2)
    assert context.steps_done == 5
    assert same(in_memory(context), on_disk(context, 2))
    assert "5 of 6: 3 evaluations in a row were no better than step 2" in early_end_sentence(picture_of(context))


def test_a_resumed_run_ends_early_where_the_straight_one_does(
    tmp_path: Path, plant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(RISES)
    with monkeypatch.context() as patch:
        stop_after_checkpoint(patch, 4)
        with pytest.raises(StopRequested):
            train(context_of(tmp_path / "run", early_stopping=3, checkpoint_every=1))
    resumed = context_of(tmp_path / "run", early_stopping=3, checkpoint_every=1)
    assert resumed.checkpoint is not None
    train(resumed)
    (ended,) = events_of(resumed.run, "training.ended_early")
    assert ended["step"] == 5
    assert same(in_memory(resumed), on_disk(resumed, 2))


def test_an_attempt_after_an_early_end_trains_no_further(tmp_path: Path, plant: Callable) -> None:
    plant(RISES)
    train(context_of(tmp_path / "run", early_stopping=3))
    again = context_of(tmp_path / "run", early_stopping=3)
    assert again.checkpoint is not None
    train(again)
    assert again.steps_done == 5
    assert [event["step"] for event in events_of(again.run, "step.logged")] == [1, 2, 3, 4, 5]
    assert same(in_memory(again), on_disk(again, 2))


def test_a_best_checkpoint_that_was_damaged_is_told_and_the_last_step_stays(tmp_path: Path, plant: Callable) -> None:
    plant(RISES)
    train(context_of(tmp_path / "run"))
    (tmp_path / "run" / "checkpoints" / "step-000002" / "weights.safetensors").write_bytes(b"no")
    again = context_of(tmp_path / "run")
    train(again)
    assert same(in_memory(again), on_disk(again, 6))
    assert "training.best_lost" in [event["code"] for event in events_of(again.run, "notice.raised")]


@pytest.mark.parametrize(
    ("best_by", "values", "best"),
    [
        ("loss", [3.0, 2.0, 2.5], 20),
        ("token_accuracy", [0.3, 0.2, 0.5], 30),
        ("loss", [2.0, 2.0, 2.0], 10),
        ("loss", [float("nan"), 2.0, float("inf")], 20),
        ("last", [3.0, 2.0, 1.0], None),
    ],
)
def test_the_direction_is_that_of_the_metric(
    tmp_path: Path, best_by: str, values: list[float], best: int | None
) -> None:
    for index, value in enumerate(values):
        save_measurement(measured(10 * index + 10, **{best_by: value}), tmp_path)
    training = TrainingSection(best_by=best_by, early_stopping=2)
    found = BestStep(tmp_path, training, 10, lambda _: True).standing(30)
    assert found.step == best


def test_a_measurement_that_somebody_asked_for_costs_no_patience(tmp_path: Path) -> None:
    for step, loss in ((10, 2.0), (11, 3.0), (12, 3.0), (13, 3.0), (20, 3.0)):
        save_measurement(measured(step, loss=loss), tmp_path)
    best = BestStep(tmp_path, TrainingSection(best_by="loss", early_stopping=2), 10, lambda _: True)
    assert best.standing(20).waited == 1
    assert not best.exhausted(best.standing(20))
    save_measurement(measured(30, loss=2.5), tmp_path)
    assert best.exhausted(best.standing(30))


def test_what_an_earlier_attempt_measured_beyond_its_checkpoint_is_not_looked_at(tmp_path: Path) -> None:
    for step, loss in ((10, 2.0), (20, 1.0)):
        save_measurement(measured(step, loss=loss), tmp_path)
    best = BestStep(tmp_path, TrainingSection(best_by="loss"), 10, lambda step: step == 10)
    assert best.standing(15).step == 10
    assert best.standing(30).step == 10, "the weights of step 20 are nowhere"
    assert best.standing(20).step == 20
