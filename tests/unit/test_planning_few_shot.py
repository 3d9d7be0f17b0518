"""When the plan measures a few-shot baseline, with how many examples, and what that may cost."""

from typing import Any

from engine.planning.few_shot import CHEAP_SHARE, example_tokens, work_share
from engine.planning.plan import Plan
from tests.unit.made_plans import DATA, LENGTHS, TEXT, codes, finding, gpu, hub_model, plan, tiny, with_gpus


def few_shot(found: Plan) -> tuple[int | None, str]:
    return found.recipe.evaluation.few_shot, found.sources["evaluation.few_shot"].detail


def test_conversations_with_generated_answers_get_three_examples() -> None:
    count, reason = few_shot(plan(model=tiny(context_length=2000)))
    assert count == 3
    assert "%" in reason


def test_nothing_is_shown_where_nothing_is_asked() -> None:
    assert few_shot(plan(objective="domain-adaptation", data=TEXT))[0] == 0
    assert few_shot(plan({"evaluation": {"metrics": ["perplexity"]}})) == (0, "no metric looks at answers")
    assert few_shot(plan(data=DATA.model_copy(update={"num_held_out": 0})))[0] == 0
    assert few_shot(plan(data=DATA.model_copy(update={"lengths": None})))[0] == 0


def test_examples_question_and_answer_fit_into_the_context() -> None:
    for context in (300, 500, 600, 800, 2000):
        found = plan(model=tiny(context_length=context))
        count, reason = few_shot(found)
        assert count is not None
        answer = found.recipe.evaluation.max_new_tokens or 0
        assert not count or count * LENGTHS.p50 + LENGTHS.p90 + answer <= context
        assert count or "no room" in reason
    assert few_shot(plan(model=tiny(context_length=600)))[0] in (1, 2)


def test_a_dear_baseline_waits_to_be_asked_for() -> None:
    slow: dict[str, Any] = {"model": hub_model("Qwen/Qwen3-0.6B"), "data": DATA.model_copy(update={"num_train": 300})}
    found = plan(**slow)
    assert work_share(found.recipe, found.data, 3) > CHEAP_SHARE
    count, reason = few_shot(found)
    assert count == 0
    assert "set it to compare" in reason
    assert few_shot(plan({"evaluation": {"few_shot": 5}}, **slow)) == (5, "")


def test_doubt_about_fine_tuning_is_worth_the_time() -> None:
    lengths = LENGTHS.model_copy(update={"count": 30, "total": 4500})
    few = DATA.model_copy(update={"num_rows": 34, "num_train": 30, "num_held_out": 4, "lengths": lengths})
    found = plan(model=hub_model("Qwen/Qwen3-0.6B"), data=few)
    assert few_shot(found)[0] == 3
    assert "with 3 of them in the prompt" in finding(found, "advice.few_examples").fix
    without = plan({"evaluation": {"few_shot": 0}}, model=hub_model("Qwen/Qwen3-0.6B"), data=few)
    assert "Then compare" in finding(without, "advice.few_examples").fix


def test_a_derived_baseline_takes_no_memory_and_a_given_one_is_counted() -> None:
    long_rows = DATA.model_copy(update={"lengths": LENGTHS.model_copy(update={"p50": 650, "p90": 690})})
    frame: dict[str, Any] = {"hardware": with_gpus(gpu(80)), "model": hub_model("Qwen/Qwen3-8B"), "data": long_rows}
    narrow: dict[str, Any] = {
        "method": {"name": "lora"},
        "training": {"micro_batch": 1, "activation_checkpointing": True},
    }
    without = plan({**narrow, "evaluation": {"few_shot": 0}}, **frame)
    derived = plan(narrow, **frame)
    assert derived.memory == without.memory
    many = plan({**narrow, "evaluation": {"few_shot": 32}}, **frame)
    assert many.memory.high_bytes > without.memory.high_bytes
    assert many.memory.peaks["evaluation"] > without.memory.peaks["evaluation"]


def test_examples_come_from_the_shorter_half() -> None:
    assert example_tokens(3, DATA) == 3 * LENGTHS.p50
    assert example_tokens(None, DATA) == 0


def test_plain_text_refuses_examples() -> None:
    assert "recipe.no_effect" in codes(plan({"evaluation": {"few_shot": 2}}, objective="domain-adaptation", data=TEXT))
