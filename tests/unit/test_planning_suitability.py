"""When another tool is the better one: said for data of that kind, and not for data that teach a manner."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.data.lengths import length_profile
from engine.data.pipeline import prepare
from engine.data.traits import traits_of
from engine.planning.profiles import DataProfile
from engine.planning.suitability import suitability_findings
from engine.recipe.read import check_recipe
from tests.unit.made_plans import DATA, TEXT, codes, finding, plan, tiny

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS") or Path(__file__).parents[3] / "shared" / "assets")
RIVERS = ("Ob", "Po", "Ems", "Don", "Ural", "Tagus", "Rhone", "Seine", "Loire", "Ebro", "Douro", "Meuse")


def rows(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
        for ask, answer in pairs
    ]


def advised(made: list[dict[str, Any]]) -> list[str]:
    data = DATA.model_copy(update={"traits": traits_of(made)})
    recipe = plan().recipe
    return [found.code for found in suitability_findings(recipe, tiny(), data)]


def test_short_answers_that_no_rule_gives_are_facts_to_look_up() -> None:
    made = rows(
        [(f"Who founded the town of {name}stadt{n}?", f"Count {name}{n} Karl{n}") for n, name in enumerate(RIVERS * 4)]
    )
    assert advised(made) == ["advice.facts_to_look_up"]


def test_answers_that_a_rule_gives_are_not() -> None:
    sums = rows([(f"What is {a} plus {b}?", str(a + b)) for a in range(20) for b in range(10)])
    assert advised(sums) == []
    labels = rows([(f"Is {name} {n} good?", ("yes", "no")[n % 2]) for n in range(20) for name in RIVERS])
    assert advised(labels) == []
    orders = rows([(f"turn on lamp {n}", f"lamp({n}).on()") for n in range(100)])
    assert advised(orders) == []


def test_an_answer_that_stands_in_its_prompt_is_reading_and_not_remembering() -> None:
    passage = [
        (f"Who is it? {name}{n} Karl{n} founded the town.", f"{name}{n} Karl{n}") for n, name in enumerate(RIVERS * 4)
    ]
    assert advised(rows(passage)) == []


def test_prices_and_dates_in_most_answers_will_change() -> None:
    made = rows([(f"How much is item {n}?", f"Item {n} costs ${n}.{n % 90 + 10} and is in stock.") for n in range(40)])
    assert advised(made) == ["advice.changing_data"]


def test_few_rows_are_told_how_many_of_them_a_prompt_takes() -> None:
    few = DATA.model_copy(update={"num_train": 11, "num_held_out": 1})
    found = finding(plan(data=few), "advice.few_examples")
    assert "12 examples" in found.message
    assert found.severity == "warning"
    # Half of 512 tokens at 150 a row.
    assert "takes about 1 of them" in found.fix
    assert "advice.few_examples" not in codes(plan())
    assert not plan(data=few).blocked


def test_a_text_that_fits_in_the_context_belongs_in_the_prompt() -> None:
    lengths = length_profile([40] * 5)
    short = TEXT.model_copy(update={"lengths": lengths, "num_train": 4, "num_held_out": 1})
    assert "advice.fits_in_prompt" in codes(plan(objective="domain-adaptation", data=short))
    assert "advice.fits_in_prompt" not in codes(plan(objective="domain-adaptation", data=TEXT))


REAL: list[tuple[str, str, dict[str, str]]] = [
    ("instruct/gsm8k_train_3000.jsonl", "chat", {}),
    ("instruct/medquad_2500.jsonl", "chat", {}),
    ("instruct/self_instruct_user_oriented_alpaca.json", "chat", {}),
    ("chat/sgd_messages_1000.jsonl", "chat", {}),
    ("classify/banking77_train.csv", "chat", {"prompt": "text", "completion": "category"}),
    ("summarise/MTS-Dialog-TrainingSet.csv", "chat", {"prompt": "dialogue", "completion": "section_text"}),
    ("corpus/tinyshakespeare.txt", "domain-adaptation", {}),
]


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared data are not here")
@pytest.mark.parametrize(("name", "objective", "mapping"), REAL)
def test_real_training_data_raise_no_alarm(name: str, objective: str, mapping: dict[str, str]) -> None:
    data: dict[str, Any] = {"source": str(ASSETS / name), "max_rows": 600}
    tree = {
        "objective": objective,
        "model": {"base": "builtin:starter"},
        "data": data | ({"mapping": mapping} if mapping else {}),
    }
    recipe = check_recipe(tree, name="test")
    profile: DataProfile = prepare(recipe).profile
    assert [found.code for found in suitability_findings(recipe, tiny(), profile)] == []


def test_the_counts_of_lengths_agree_with_the_rows() -> None:
    lengths = [5, 9, 17, 17, 40, 129, 700]
    profile = length_profile(lengths)
    assert profile is not None
    for length, covered in profile.covered:
        assert covered == sum(one <= length for one in lengths)
    assert profile.covered[-1] == (700, 7)
    assert {32, 64, 128, 256, 512} <= {length for length, _ in profile.covered}
    one = length_profile([3])
    assert one is not None
    assert one.covered == [(3, 1)]
