"""Rules of the section `reinforcement`: each fires on a planted recipe and stays silent on a sound one."""

import pytest

from engine.recipe.read import check_recipe
from engine.recipe.rules import check_rules
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten


def found(**sections) -> dict[str, str]:
    tree = {
        "objective": "reinforcement-learning",
        "model": {"base": "builtin:starter"},
        "data": {"source": "rows.jsonl"},
        **sections,
    }
    recipe = Recipe.model_validate(tree)
    problems = check_rules(recipe, flatten(tree).keys())
    return {problem.code: problem.path for problem in problems if problem.severity == "error"}


def test_a_sound_recipe_passes():
    assert not found()
    assert not found(reinforcement={"rewards": ["number", "length"], "wished_length": 30, "weights": {"length": 0.1}})
    assert not found(reinforcement={"algorithm": "rloo", "scale_rewards": "batch"})
    assert not found(training={"effective_batch": 24, "num_gpus": 1}, reinforcement={"num_generations": 12})


@pytest.mark.parametrize(
    ("sections", "code", "path"),
    [
        ({"reinforcement": {"rewards": []}}, "reward.none", "reinforcement.rewards"),
        ({"reinforcement": {"rewards": ["format"]}}, "reward.setting_missing", "reinforcement.pattern"),
        ({"reinforcement": {"rewards": ["model"]}}, "reward.setting_missing", "reinforcement.reward_model"),
        ({"reinforcement": {"rewards": ["number", "number"]}}, "reward.twice", "reinforcement.rewards"),
        ({"reinforcement": {"weights": {"last_line": 0}}}, "reward.no_weight", "reinforcement.weights"),
        ({"reinforcement": {"weights": {"number": 1}}}, "recipe.no_effect", "reinforcement.weights"),
        ({"reinforcement": {"pattern": "x"}}, "recipe.no_effect", "reinforcement.pattern"),
        ({"reinforcement": {"reward_model": "run:x"}}, "recipe.no_effect", "reinforcement.reward_model"),
        ({"reinforcement": {"trust_reward_code": True}}, "recipe.no_effect", "reinforcement.trust_reward_code"),
        (
            {"reinforcement": {"rewards": ["file"], "reward_file": "r.py"}},
            "reward.file_not_trusted",
            "reinforcement.trust_reward_code",
        ),
        ({"training": {"effective_batch": 12}}, "reinforcement.groups", "training.effective_batch"),
        ({"training": {"num_gpus": 2}}, "reinforcement.num_gpus", "training.num_gpus"),
        (
            {"reinforcement": {"algorithm": "rloo", "scale_rewards": "group"}},
            "reinforcement.scale_rloo",
            "reinforcement.scale_rewards",
        ),
        (
            {"reinforcement": {"algorithm": "rloo", "token_mean": "answer"}},
            "recipe.no_effect",
            "reinforcement.token_mean",
        ),
        (
            {"training": {"max_length": 64}, "reinforcement": {"max_completion": 64}},
            "reinforcement.no_room",
            "reinforcement.max_completion",
        ),
        ({"evaluation": {"max_rows": 5}}, "recipe.no_effect", "evaluation.max_rows"),
        (
            {
                "reinforcement": {"rewards": ["length"], "wished_length": 9},
                "evaluation": {"metrics": ["solved_rate"]},
            },
            "evaluation.metric_reward",
            "evaluation.metrics",
        ),
        ({"training": {"probe": "always"}}, "recipe.no_effect", "training.probe"),
        ({"training": {"neftune_alpha": 5.0}}, "recipe.no_effect", "training.neftune_alpha"),
        ({"training": {"packing": True}}, "recipe.no_effect", "training.packing"),
    ],
)
def test_what_is_wrong_is_named(sections, code: str, path: str):
    assert found(**sections).get(code) == path


def test_the_groups_say_which_batches_would_do():
    tree = {
        "objective": "reinforcement-learning",
        "model": {"base": "builtin:starter"},
        "data": {"source": "rows.jsonl"},
        "training": {"effective_batch": 20},
    }
    problems = check_rules(Recipe.model_validate(tree), flatten(tree).keys())
    (problem,) = [each for each in problems if each.code == "reinforcement.groups"]
    assert problem.fix == "Set training.effective_batch to 16 or 24."


def test_rewards_have_no_effect_on_other_objectives():
    tree = {
        "objective": "chat",
        "model": {"base": "builtin:starter"},
        "data": {"source": "rows.jsonl"},
        "reinforcement": {"rewards": ["number"]},
    }
    codes = {(each.code, each.path) for each in check_rules(Recipe.model_validate(tree), flatten(tree).keys())}
    assert ("recipe.no_effect", "reinforcement.rewards") in codes


def test_weights_are_numbers_in_the_recipe():
    tree = {
        "objective": "reinforcement-learning",
        "model": {"base": "builtin:starter"},
        "data": {"source": "rows.jsonl"},
        "reinforcement": {"rewards": ["number", "json_valid"], "weights": {"json_valid": 0.5, "number": 1}},
    }
    assert check_recipe(tree, name="").reinforcement.weights == {"json_valid": 0.5, "number": 1.0}
