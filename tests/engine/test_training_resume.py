"""A run that was stopped, killed or moved and then resumed ends where the straight run ends, bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.runs.picture import open_picture
from engine.training.checkpoints import STATE
from engine.training.interrupt import StopRequested
from engine.training.lookout import Lookout
from engine.training.run import Training, evaluate, train
from engine.training.state_files import load_tree
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, loss_curve, made_recipe

CASES = {
    "lora with dropout and accumulation": ({"micro_batch": 2, "epochs": 2.0}, {"dropout": 0.2}, 7),
    "stopped between two epochs": ({"micro_batch": 4, "epochs": 2.0}, {"dropout": 0.2}, 6),
    "in the second epoch": ({"micro_batch": 2, "epochs": 2.0}, {"dropout": 0.2}, 14),
    "full": ({"micro_batch": 1, "epochs": 1.5}, {"name": "full", "rank": None, "alpha": None}, 11),
    "8-bit optimizer": ({"optimizer": "adamw_8bit", "max_steps": 9}, {"name": "full"}, 4),
    "adafactor": ({"optimizer": "adafactor", "max_steps": 6}, {}, 3),
    "8-bit lion": ({"optimizer": "lion_8bit", "max_steps": 6}, {"name": "full", "rank": None, "alpha": None}, 3),
    "noise, dropout and smoothed labels": (
        {"neftune_alpha": 5.0, "dropout": 0.2, "label_smoothing": 0.1, "max_steps": 6},
        {},
        3,
    ),
    "bfloat16 arithmetic": ({"precision": "bfloat16", "max_steps": 9}, {"dropout": 0.2}, 4),
    "packed text": ({"packing": True, "micro_batch": 2, "epochs": 3.0}, {"dropout": 0.2}, 5),
    "activation checkpointing": ({"activation_checkpointing": True, "max_steps": 6}, {"dropout": 0.2}, 3),
}


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(max((folder / "checkpoints").glob("step-*")) / "weights.safetensors")


def alarm_state(folder: Path) -> dict:
    """Return the state of the alarms in the last checkpoint."""
    return load_tree(max((folder / "checkpoints").glob("step-*")), STATE)["progress"]["alarms"]


def stop_after(monkeypatch: pytest.MonkeyPatch, micro_steps: int) -> None:
    """Let a signal arrive during the given micro-step."""
    seen = 0
    original = Lookout.after_micro_step

    def counting(self: Lookout, loss: torch.Tensor) -> None:
        nonlocal seen
        original(self, loss)
        seen += 1
        if seen == micro_steps:
            self._interrupt.request("SIGTERM")

    monkeypatch.setattr(Lookout, "after_micro_step", counting)


def stop_after_checkpoint(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let a signal arrive between the checkpoint of a step and the evaluation that is due at the same step."""
    original = Training.save

    def signalled(self: Training) -> bool:
        saved = original(self)
        if self.state.step == step:
            self.context.interrupt.request("SIGTERM")
        return saved

    monkeypatch.setattr(Training, "save", signalled)


@pytest.mark.parametrize("name", CASES)
def test_resumed_run_equals_the_straight_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training, method, micro_steps = CASES[name]
    objective = "domain-adaptation" if training.get("packing") else "chat"
    recipe = made_recipe("model", "data", objective=objective, training=training, method=method)
    num_rows = 60 if objective == "domain-adaptation" else 22

    straight = made_context(tmp_path / "straight", recipe, num_rows=num_rows)
    train(straight)
    with monkeypatch.context() as patch:
        stop_after(patch, micro_steps)
        with pytest.raises(StopRequested):
            train(made_context(tmp_path / "stopped", recipe, num_rows=num_rows))
    resumed = made_context(tmp_path / "stopped", recipe, num_rows=num_rows)
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.step > 0
    train(resumed)

    curve = loss_curve(straight.run)
    assert loss_curve(resumed.run) == curve
    assert len(curve) > resumed.checkpoint.step
    expected, found = last_weights(tmp_path / "straight"), last_weights(tmp_path / "stopped")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert alarm_state(tmp_path / "stopped") == alarm_state(tmp_path / "straight")
    assert alarm_state(tmp_path / "straight")["baseline"]["count"] == len(curve)


def test_an_evaluation_that_a_stop_cut_off_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = made_recipe("model", "data", training={"max_steps": 6, "evaluate_every": 2, "checkpoint_every": 2})
    straight = made_context(tmp_path / "straight", recipe)
    train(straight)
    with monkeypatch.context() as patch:
        stop_after_checkpoint(patch, 4)
        with pytest.raises(StopRequested):
            train(made_context(tmp_path / "stopped", recipe))
    resumed = made_context(tmp_path / "stopped", recipe)
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.step == 4
    train(resumed)
    measured = [(event["step"], event["metrics"]) for event in events_of(straight.run, "evaluation.completed")]
    assert [step for step, _ in measured] == [2, 4]
    assert [(event["step"], event["metrics"]) for event in events_of(resumed.run, "evaluation.completed")] == measured
    assert loss_curve(resumed.run) == loss_curve(straight.run)


def test_an_alarm_is_raised_once_over_a_stop_and_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    still = {"learning_rate": 1e-12, "schedule": "constant", "warmup": 0.0, "max_steps": 56, "evaluate_every": 20}
    recipe = made_recipe("model", "data", training=still)
    context = made_context(tmp_path / "run", recipe)
    evaluate(context, "before", 0)
    with monkeypatch.context() as patch:
        stop_after(patch, 53)
        with pytest.raises(StopRequested):
            train(context)
    resumed = made_context(tmp_path / "run", recipe)
    assert resumed.checkpoint is not None
    train(resumed)
    assert len(loss_curve(resumed.run)) == 56
    (notice,) = [event for event in events_of(resumed.run, "notice.raised") if event["code"].startswith("alarm.")]
    # Held-out rows were measured at steps 20 and 40, and told as soon as a rate of its own could have taught something.
    assert (notice["code"], notice["severity"], notice["step"]) == ("alarm.plateau", "warning", 50)
    assert "The loss has not fallen in 50 steps" in notice["message"]
    assert "on held-out rows" in notice["message"]
    picture, _ = open_picture(resumed.run)
    assert picture.alarms == {"plateau": {"step": 50, "message": notice["message"]}}


def test_a_copied_run_resumes_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = made_recipe("model", "data", training={"max_steps": 6})
    straight = made_context(tmp_path / "straight", recipe)
    train(straight)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(StopRequested):
            train(made_context(tmp_path / "here", recipe))
    (tmp_path / "here").rename(tmp_path / "there")
    moved = made_context(tmp_path / "there", recipe)
    assert moved.checkpoint is not None
    train(moved)
    assert loss_curve(moved.run) == loss_curve(straight.run)


def test_a_checkpoint_holds_no_pickle(tmp_path: Path):
    train(made_context(tmp_path / "run", made_recipe("model", "data", training={"max_steps": 3})))
    names = sorted(path.name for path in max((tmp_path / "run" / "checkpoints").iterdir()).iterdir())
    assert names == ["MANIFEST.json", "state.json", "state.safetensors", "trainer_state.json", "weights.safetensors"]
