"""Whole runs from rewards, and runs that start from what others have left."""

import json
import math
import os
from pathlib import Path

import pytest

from engine.models.hub import resolve_model
from engine.objectives.rewarding import Rewarding, make_rewarding
from engine.planning.model_profile import read_model_profile
from engine.recipe.problems import ProblemError
from engine.rewards.judge import Judge
from engine.runs.directory import RunDirectory
from engine.runs.home import home_folders
from engine.training.preflight_rewards import check_rewards
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, made_recipe, make_run
from tests.engine.tiny_models import save_tiny_model
from tests.engine.whole_runs import finished


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    runs = home_folders().runs
    runs.mkdir(parents=True)
    return runs


def left_by_a_run(runs: Path, name: str) -> RunDirectory:
    return make_run(runs / name, made_recipe("made/base", "rows.jsonl"))


def test_a_run_starts_from_what_another_has_left(home: Path):
    run = left_by_a_run(home, "20261201-101010-first-abcd")
    save_tiny_model(run.merged_folder)
    for text in ("run:20261201-101010-first-abcd", "run:first", "run:latest", f"run:{run.path}"):
        profile = read_model_profile(text)
        assert (profile.from_run, profile.folder) == ("20261201-101010-first-abcd", str(run.merged_folder))
        assert resolve_model(text).folder == run.merged_folder
    assert profile.base == "run:20261201-101010-first-abcd"
    (note,) = [finding for finding in profile.findings if finding.code == "model.from_run"]
    assert "20261201-101010-first-abcd (chat, from made/base)" in note.message


def test_a_run_that_left_no_whole_model_says_what_to_do(home: Path):
    run = left_by_a_run(home, "20261201-101010-first-abcd")
    with pytest.raises(ProblemError, match="has left no model yet") as found:
        read_model_profile("run:first")
    assert found.value.problems[0].path == "model.base"
    run.adapter_folder.mkdir(parents=True)
    (run.adapter_folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ProblemError, match="left an adapter alone"):
        resolve_model("run:first")
    with pytest.raises(ProblemError) as missing:
        resolve_model("run:none-of-this-name")
    assert missing.value.problems[0].code == "run.not_found"


def test_rewards_are_tried_on_right_and_on_empty_answers(tmp_path: Path):
    recipe = made_recipe("m", "d", objective="reinforcement-learning", reinforcement={"rewards": ["exact_answer"]})
    context = made_context(tmp_path / "run", recipe)
    context.rewarding = make_rewarding(recipe, context.model)
    right = check_rewards(context)
    assert (right.status, right.measured["right"], right.measured["empty"]) == ("passed", 1.0, 0.0)
    # One that likes silence gives the right answers less.
    silent = Judge({"model": lambda answers: [-float(len(each.completion)) for each in answers]}, {})
    context.rewarding = Rewarding(silent, None)
    wrong = check_rewards(context)
    assert wrong.status == "warning"
    assert wrong.measured["not_better"] == 4
    assert "made.jsonl:1" in wrong.rows
    failing = Judge({"model": lambda answers: [float("nan")] * len(answers)}, {})
    context.rewarding = Rewarding(failing, None)
    with pytest.raises(ProblemError, match="gave nan"):
        check_rewards(context)


ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")
def test_gsm8k_is_learnt_from_a_rule_on_a_real_model(tmp_path: Path) -> None:
    made = {
        "objective": "reinforcement-learning",
        "model": {"base": str(ASSETS / "models" / "tinystories-656k")},
        "data": {"source": str(ASSETS / "instruct" / "gsm8k_train_3000.jsonl"), "max_rows": 60},
        "training": {"max_steps": 3, "effective_batch": 16, "evaluate_every": 1000},
        "evaluation": {"generate_rows": 4},
        "reinforcement": {"rewards": ["last_line", "length"], "wished_length": 10, "max_completion": 16},
    }
    run, _ = finished(made, tmp_path, 600, method__name="lora")
    steps = [event["extra"] for event in events_of(run, "step.logged")]
    assert len(steps) == 3
    assert all(math.isfinite(value) for step in steps for value in step.values())
    assert all(
        0 < step["reward_length"] <= 1
        and step["reward"] == pytest.approx(step["reward_length"] + step["reward_last_line"])
        for step in steps
    )
    measured = json.loads((run.evaluation_folder / "after.json").read_text())
    assert set(measured["metrics"]) == {"reward", "solved_rate", "kl", "completion_length", "general_perplexity"}
    # The right answers stand behind ####, and the check before the start has found that they earn more.
    (check,) = [event for event in events_of(run, "preflight.checked") if event["id"] == "P25"]
    assert check["status"] == "passed"
    assert run.report_markdown_file.read_text().count("(reward ") >= 2
