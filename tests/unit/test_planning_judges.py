"""Reward models that a run asks: where they lie, what they weigh, and what is told of those that cannot be had."""

from pathlib import Path
from typing import Any

import pytest

from engine.planning.memory import Setup
from engine.planning.memory_phases import JUDGE, phase_peaks
from engine.planning.plan import Plan
from engine.recipe.read import dump_recipe
from engine.runs.directory import RunDirectory, create_run
from engine.runs.home import home_folders
from tests.unit.made_plans import DATA, codes, finding, plan, tiny

MIB = 2**20
PAIRS = DATA.model_copy(update={"format": "preference", "mapping": {}})


def weights(folder: Path, num_bytes: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(num_bytes)
    return folder


def run_of(objective: str, *, merged: int = 0, adapter: int = 0, base: int = 0) -> RunDirectory:
    """Return a run in the home folder that has left weights of so many bytes."""
    data = PAIRS if objective == "reward-model" else DATA
    made = plan(objective=objective, data=data, model=tiny(weights_bytes=base))
    run = create_run(home_folders(), dump_recipe({"objective": objective}), made)
    for folder, size in ((run.merged_folder, merged), (run.adapter_folder, adapter)):
        if size:
            weights(folder, size)
    return run


def preferring(judge: str, **sections: Any) -> Plan:
    return plan({"preference": {"judge": judge}, **sections}, objective="preference", data=PAIRS)


def rewarded(judge: str) -> Plan:
    section = {"rewards": ["model"], "reward_model": judge}
    return plan({"reinforcement": section}, objective="reinforcement-learning")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_the_judge_of_a_preference_counts_in_its_evaluations(tmp_path: Path) -> None:
    small, large = (weights(tmp_path / name, size) for name, size in (("s", MIB), ("l", 4096 * MIB)))
    added = preferring(str(large)).memory.expected_bytes - preferring(str(small)).memory.expected_bytes
    assert added > 3000 * MIB
    peaks = phase_peaks(tiny(), Setup("cpu", "lora", "float32", 1, 64, judge_bytes=4096 * MIB))
    assert peaks["evaluation"][JUDGE] == 4096 * MIB
    assert JUDGE not in peaks["training"]


def test_the_reward_model_of_reinforcement_learning_counts_while_it_trains(tmp_path: Path) -> None:
    small, large = (weights(tmp_path / name, size) for name, size in (("s", MIB), ("l", 512 * MIB)))
    assert rewarded(str(large)).memory.components[JUDGE] == 512 * MIB
    assert rewarded(str(small)).memory.components[JUDGE] == MIB
    rules = plan(objective="reinforcement-learning")
    assert JUDGE not in rules.memory.components


def test_a_run_that_left_an_adapter_alone_weighs_its_base_too() -> None:
    run = run_of("reward-model", adapter=MIB, base=100 * MIB)
    assert rewarded(f"run:{run.folder_name}").memory.components[JUDGE] == 101 * MIB
    weights(run.merged_folder, 50 * MIB)
    assert rewarded(f"run:{run.folder_name}").memory.components[JUDGE] == 50 * MIB


@pytest.mark.parametrize("made", [preferring, rewarded])
def test_a_judge_is_written_down_for_a_worker_that_stands_elsewhere(made: Any, tmp_path: Path) -> None:
    weights(tmp_path / "judges" / "mine", MIB)
    run = run_of("reward-model", merged=MIB)
    for named, place in (
        ("judges/mine", str(tmp_path / "judges" / "mine")),
        ("run:latest", f"run:{run.path}"),
        (run.folder_name, f"run:{run.path}"),
    ):
        found = made(named)
        recipe = found.recipe
        assert (recipe.preference.judge or recipe.reinforcement.reward_model) == place
        assert not [code for code in codes(found, "error") if code.startswith(("reward.", "run.", "model."))]


@pytest.mark.parametrize(("made", "path"), [(preferring, "preference.judge"), (rewarded, "reinforcement.reward_model")])
def test_what_is_no_judge_is_told_before_the_run(made: Any, path: str) -> None:
    assert finding(made("nowhere/at-all"), "model.folder_missing").path == path
    chat = run_of("chat", merged=MIB)
    assert "has the objective chat" in finding(made(f"run:{chat.folder_name}"), "reward.no_reward_model").message
    unfinished = run_of("reward-model")
    assert finding(made(f"run:{unfinished.folder_name}"), "run.no_model").path == path
