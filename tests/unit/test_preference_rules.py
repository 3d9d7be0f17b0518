"""What a recipe of pairs may say, what its rows cost, and what is told of them before anything learns."""

import pytest

from engine.catalog.preference_losses import LOSS_SETTINGS, PREFERENCE_LOSSES, find_loss, losses_reading
from engine.data.lengths import estimate_lengths
from engine.data.preflight_pairs import _marked, _pairs
from engine.planning.profiles import DataProfile
from engine.planning.sides import Sides, sides_of
from engine.recipe.fields import fields_by_path
from engine.recipe.rules import check_rules
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten
from tests.unit.made_plans import DATA, codes, plan

PAIRS = DATA.model_copy(update={"format": "preference", "mapping": {}})
BASE = {"objective": "preference", "model": {"base": "m"}, "data": {"source": "rows.jsonl"}}


def told(tree: dict, *paths: str) -> list[tuple[str, str]]:
    recipe = Recipe.model_validate({**BASE, **tree})
    problems = check_rules(recipe, {*paths})
    return [(problem.code, problem.path) for problem in problems if problem.severity == "error"]


@pytest.mark.parametrize("path", LOSS_SETTINGS)
@pytest.mark.parametrize("loss", [loss.name for loss in PREFERENCE_LOSSES])
def test_a_setting_is_refused_by_every_loss_that_does_not_read_it(path: str, loss: str) -> None:
    name = path.removeprefix("preference.")
    found = told({"preference": {"loss": loss, name: 0.3}}, path, "preference.loss")
    expected = [] if loss in losses_reading(path) else [("recipe.no_effect", path)]
    assert found == expected


def test_every_setting_of_a_loss_is_a_field_and_its_beta_within_bounds() -> None:
    assert set(LOSS_SETTINGS) <= set(fields_by_path())
    for loss in PREFERENCE_LOSSES:
        Recipe.model_validate({**BASE, "preference": {"loss": loss.name, "beta": loss.beta}})


def test_single_answers_need_kto_and_kto_needs_two_rows() -> None:
    marked = {"data": {"source": "rows.jsonl", "format": "unpaired_preference"}}
    assert told({**marked, "preference": {"loss": "dpo"}}, "preference.loss") == [
        ("preference.unpaired", "preference.loss")
    ]
    assert told(marked) == []
    assert told({**marked, "preference": {"loss": "kto"}}) == []
    alone = {"preference": {"loss": "kto"}, "training": {"effective_batch": 1}}
    assert ("preference.batch", "training.effective_batch") in told(alone)


def test_rows_of_one_answer_each_are_learnt_with_kto_where_nobody_chose_a_loss() -> None:
    marked = DATA.model_copy(update={"format": "unpaired_preference", "mapping": {}})
    made = plan(objective="preference", data=marked)
    assert (made.recipe.preference.loss, made.sources["preference.loss"].kind) == ("kto", "derived")
    assert made.recipe.preference.beta == find_loss("kto").beta
    assert not codes(made, "error")
    assert plan(objective="preference", data=PAIRS).recipe.preference.loss == "dpo"
    assert "preference.unpaired" in codes(
        plan({"preference": {"loss": "dpo"}}, objective="preference", data=marked), "error"
    )
    weighed = {"preference": {"desirable_weight": 2.0}}
    assert not codes(plan(weighed, objective="preference", data=marked), "error")
    assert "recipe.no_effect" in codes(plan(weighed, objective="preference", data=PAIRS), "error")
    # Before the rows are read nobody knows which loss it will be.
    assert told(weighed, "preference.desirable_weight") == []
    said = {**weighed, "data": {"source": "rows.jsonl", "format": "preference"}}
    assert told(said, "preference.desirable_weight") == [("recipe.no_effect", "preference.desirable_weight")]


def test_a_win_rate_needs_a_judge_and_a_judge_a_win_rate() -> None:
    asked = {"evaluation": {"metrics": ["win_rate"]}}
    assert told(asked) == [("preference.no_judge", "preference.judge")]
    assert told({**asked, "preference": {"judge": "runs/r"}}) == []
    other = {"evaluation": {"metrics": ["reward_accuracy"]}, "preference": {"judge": "runs/r"}}
    assert told(other) == [("recipe.no_effect", "preference.judge")]


def test_a_pair_costs_two_sequences_and_kto_reads_one_more() -> None:
    def sides(loss: str, shape: str = "preference", objective: str = "preference") -> Sides:
        recipe = Recipe.model_validate({**BASE, "objective": objective, "preference": {"loss": loss}})
        return sides_of(flatten(recipe.model_dump(mode="json")), DataProfile(format=shape))

    assert sides("dpo") == Sides(2, 0.0, reference=True)
    assert sides("simpo") == Sides(2, 0.0, reference=False)
    assert sides("kto") == Sides(2, 0.5, reference=True)
    assert sides("kto", "unpaired_preference") == Sides(1, 1.0, reference=True)
    assert sides("dpo", objective="reward-model") == Sides(2)
    assert sides("dpo", "messages", "chat") == Sides()


def pair(chosen: str, rejected: str, number: int = 0) -> dict:
    said = [[{"role": "assistant", "content": text}] for text in (chosen, rejected)]
    return {
        "id": f"p:{number}",
        "prompt": [{"role": "user", "content": "Is it?"}],
        "chosen": said[0],
        "rejected": said[1],
    }


def test_lengths_are_those_of_both_sides() -> None:
    whole, answers = estimate_lengths([pair("x" * 400, "y" * 40)])
    assert whole is not None
    assert answers is not None
    assert (whole.count, answers.count) == (2, 2)
    assert (answers.longest, answers.p50) == (101, 11)


def test_equal_sides_block_where_they_are_many_and_warn_where_they_are_few() -> None:
    clean = [pair("yes, it is", "no, not so", number) for number in range(30)]
    assert _pairs(clean).status == "passed"
    few = _pairs([*clean, pair("Yes.", "yes!", 99)])
    assert (few.status, list(few.rows)) == ("warning", ["p:99"])
    assert _pairs([pair("Yes.", "yes!"), *clean[:3]]).status == "blocked"


@pytest.mark.parametrize(
    ("chosen", "rejected", "word"), [("long " * 9, "no", "longer"), ("no", "long " * 9, "shorter")]
)
def test_pairs_that_differ_in_length_are_told(chosen: str, rejected: str, word: str) -> None:
    rows = [pair(chosen, rejected, number) for number in range(20)]
    found = _pairs(rows)
    assert found.status == "warning"
    assert f"the chosen answer is the {word} one" in found.message
    balanced = rows[:10] + [pair(rejected, chosen, number) for number in range(10)]
    assert _pairs(balanced).status == "passed"


def test_answers_of_one_kind_block_and_a_rare_kind_gets_a_weight() -> None:
    def marked(good: int, bad: int):
        return _marked([{"label": True}] * good + [{"label": False}] * bad)

    assert marked(5, 0).status == marked(0, 5).status == "blocked"
    assert marked(6, 4).status == "passed"
    rare = marked(9, 1)
    assert (rare.status, rare.fix) == (
        "warning",
        "Set preference.undesirable_weight to about 9, so that both kinds count the same.",
    )


def test_losses_are_found_by_name() -> None:
    assert find_loss("kto").reads_unpaired
    with pytest.raises(KeyError):
        find_loss("ppo")
