"""How to go on from a finished run: every way of the table is one that the catalogue allows and a recipe can say."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.catalog.matrix import reason_against_kind
from engine.catalog.next_runs import NEXT_RUNS, NextRun, next_runs
from engine.catalog.objectives import OBJECTIVES, ModelKind, find_objective
from engine.planning.profiles import DataProfile, ModelProfile
from engine.recipe.problems import ProblemError
from engine.recipe.read import check_recipe
from engine.recipe.rules import check_rules
from engine.recipe.sources import unflatten
from engine.runs.directory import RunDirectory, create_run, plain_name
from engine.runs.follow_ups import follow_ups
from engine.runs.home import home_folders
from engine.runs.references import base_words, reference_to, run_model
from tests.unit.made_plans import DATA, plan, tiny
from tui.cli import app
from tui.preparation import read_reference

WAYS = [(objective, kind, way) for (objective, kind), ways in NEXT_RUNS.items() for way in ways]
PAIRS = DATA.model_copy(update={"format": "preference", "mapping": {}})


@pytest.mark.parametrize(("objective", "kind", "way"), WAYS, ids=lambda part: getattr(part, "objective", part))
def test_every_way_is_one_that_the_catalogue_allows_and_a_recipe_can_say(
    objective: str, kind: ModelKind, way: NextRun
) -> None:
    assert kind in find_objective(objective).kinds
    assert not reason_against_kind(way.objective, kind)
    assert way.why.endswith(".")
    answers = way.answers("run:before", "run:start")
    assert answers["objective"] == way.objective
    assert answers["model.base"] == ("run:before" if way.role == "base" else "run:start")
    tree = unflatten({**answers, "data.source": "rows.jsonl"})
    recipe = check_recipe(tree, name="")
    assert [found for found in check_rules(recipe, {*answers, "data.source"}) if found.severity == "error"] == []


def test_the_table_has_no_row_that_leads_nowhere_and_is_asked_for_every_objective() -> None:
    assert all(NEXT_RUNS.values())
    for objective in OBJECTIVES:
        for kind in objective.kinds:
            names = [way.objective for way in next_runs(objective.name, kind)]
            assert len(names) == len(set(names))
    assert next_runs("classification", "encoder") == ()


def test_rlhf_is_three_runs_that_feed_each_other() -> None:
    assert "reward-model" in [way.objective for way in next_runs("chat", "decoder")]
    (third,) = next_runs("reward-model", "decoder")
    assert third.answers("run:judge", "run:sft") == {
        "objective": "reinforcement-learning",
        "model.base": "run:sft",
        "reinforcement.rewards": ["model"],
        "reinforcement.reward_model": "run:judge",
    }


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTWIZARD_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def finished(
    objective: str = "chat",
    you: dict[str, Any] | None = None,
    *,
    model: ModelProfile | None = None,
    data: DataProfile = DATA,
    left: str = "merged",
) -> RunDirectory:
    """Return a run in the home folder with the model that it has left."""
    run = create_run(home_folders(), "", plan(you, objective=objective, data=data, model=model))
    for kind, folder, name in (
        ("merged", run.merged_folder, "config.json"),
        ("adapter", run.adapter_folder, "adapter_config.json"),
    ):
        if kind == left:
            folder.mkdir(parents=True)
            (folder / name).write_text("{}")
    return run


def answers_of(run: RunDirectory) -> dict[str, dict[str, Any]]:
    return {way.answers["objective"]: way.answers for way in follow_ups(run)}


def test_a_run_brings_its_model_and_the_message_that_its_conversations_began_with() -> None:
    run = finished(you={"data": {"system_prompt": "Be brief."}})
    found = answers_of(run)
    assert set(found) == {"preference", "reward-model", "reinforcement-learning"}
    for answers in found.values():
        assert answers["model.base"] == f"run:{run.folder_name}"
        assert answers["data.system_prompt"] == "Be brief."


def test_what_is_gone_is_not_offered() -> None:
    for left in ("", "adapter"):
        assert follow_ups(finished(left=left)) == ()
    run = finished()
    run.plan_file.write_text("{")
    assert follow_ups(run) == ()
    assert follow_ups(finished("classification")) == ()


def test_a_judge_may_be_an_adapter_and_its_start_is_where_answers_are_learnt() -> None:
    sft = finished()
    start = tiny(base=reference_to(sft), from_run=sft.folder_name)
    judge = finished("reward-model", model=start, data=PAIRS, left="adapter")
    (way,) = follow_ups(judge)
    assert way.answers["model.base"] == f"run:{sft.folder_name}"
    assert way.answers["reinforcement.reward_model"] == f"run:{judge.folder_name}"


@pytest.mark.parametrize(
    ("changes", "base"),
    [
        ({"base": "owner/model"}, "owner/model"),
        ({"base": "run:gone"}, None),
        ({"base": "owner/judge", "architecture": "LlamaForSequenceClassification"}, None),
    ],
)
def test_a_start_that_is_gone_or_cannot_write_is_asked_for(changes: dict[str, Any], base: str | None) -> None:
    judge = finished("reward-model", model=tiny(**changes), data=PAIRS)
    (way,) = follow_ups(judge)
    assert way.answers.get("model.base") == base


def test_a_run_outside_of_the_runs_folder_is_named_by_its_path(tmp_path: Path) -> None:
    run = finished()
    elsewhere = tmp_path / "copied run"
    run.path.rename(elsewhere)
    copied = RunDirectory(elsewhere)
    assert answers_of(copied)["preference"]["model.base"] == f"run:{elsewhere}"
    assert run_model(f"run:{elsewhere}").reference == f"run:{elsewhere}"


def test_the_command_says_the_whole_recipe() -> None:
    judge = finished("reward-model", model=tiny(base="owner/model"), data=PAIRS)
    (way,) = follow_ups(judge)
    words = shlex.split(shlex.join(way.command("my rows.jsonl")))
    assert words[:2] == ["ftwizard", "run"]
    layered = read_reference("", words[3::2])
    assert layered.tree["data"] == {"source": "my rows.jsonl"}
    assert layered.tree["reinforcement"]["rewards"] == ["model"]
    check_recipe(layered.tree, name="")


def test_a_verb_without_a_recipe_needs_changes_that_are_one() -> None:
    with pytest.raises(ProblemError) as caught:
        read_reference("")
    assert caught.value.problems[0].code == "recipe.none"
    said = CliRunner().invoke(app, ["plan", "--set", "objective=chat"])
    assert said.exit_code == 2
    assert "model" in said.output


def test_a_next_run_is_called_after_the_model_at_the_start_of_the_chain() -> None:
    base = "run:20261201-101010-smollm2-on-rows-k3f9"
    made = plan({"model": {"base": "run:latest"}}, model=tiny(base=base, from_run="x"))
    assert made.recipe.name == "smollm2 on rows"
    renamed = plan(model=tiny(base="run:my model", from_run="x"))
    assert renamed.recipe.name == "my model on rows"


def test_a_model_that_a_run_has_left_is_called_after_the_run() -> None:
    run = finished()
    assert base_words(str(run.merged_folder)) == plain_name(run.folder_name)
    for base, words in {
        "owner/model": "model",
        "/models/merged": "merged",
        "builtin:starter": "builtin:starter",
    }.items():
        assert base_words(base) == words
    assert base_words(f"run:{run.folder_name}") == plain_name(run.folder_name)
