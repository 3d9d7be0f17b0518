"""What answers earn: each rule on planted cases, on both sides; patterns and people's own code that go wrong."""

from pathlib import Path

import pytest

from engine.catalog.rewards import REWARDS, find_reward
from engine.recipe.problems import ProblemError
from engine.recipe.schema_objectives import ReinforcementSection
from engine.rewards import rules
from engine.rewards.judge import Judge, make_judge
from engine.rewards.persons_code import load_rule
from engine.rewards.rules import Judged

GSM = "She eats 3 + 4 = <<3+4=7>>7 eggs.\nShe sells 16 - 7 = 9.\n#### 1,018"


def said(completion: str, answer: str = GSM, num_tokens: int = 0) -> Judged:
    return Judged("rows.jsonl:3", [{"role": "user", "content": "How many?"}], answer, completion, num_tokens)


def no_model(_: str):
    raise AssertionError("no reward model is asked for")


@pytest.mark.parametrize(
    ("rule", "completion", "answer", "earned"),
    [
        (rules.last_line, "So it is\n#### 1018", GSM, 1),
        (rules.last_line, "1,018.0", GSM, 1),
        (rules.last_line, "#### 1018\nDone.", GSM, 0),
        (rules.last_line, "#### 1019", GSM, 0),
        (rules.last_line, "Yes,\n  the  RED door ", "the red door", 1),
        (rules.last_line, "", "", 0),
        (rules.last_line, "5 apples", "5", 0),
        (rules.contains_answer, "I say 1,018 eggs.", GSM, 1),
        (rules.contains_answer, "I say 11,018 eggs", GSM, 0),
        (rules.contains_answer, "It is 42.", "42", 1),
        (rules.contains_answer, "It is 42.5", "42", 0),
        (rules.contains_answer, "It is 3.42", "42", 0),
        (rules.contains_answer, "142 and then 42!", "42", 1),
        (rules.contains_answer, "a red\ndoor", "Red door", 1),
        (rules.contains_answer, "reddoor", "red", 0),
        (rules.contains_answer, "anything", "", 0),
        (rules.exact_answer, " on(red_lamp)\n", "on(red_lamp)", 1),
        (rules.exact_answer, "on(red_lamp) please", "on(red_lamp)", 0),
        (rules.exact_answer, "", "", 0),
        (rules.number, "That makes $1,018.00 in all", GSM, 1),
        (rules.number, "7 and 1018, not 3", GSM, 0),
        (rules.number, "-2", "about -2.0 degrees", 1),
        (rules.number, "no number", GSM, 0),
        (rules.number, "9" * 100_000, GSM, 0),
        (rules.json_valid, '{"a": [1, 2]}', "", 1),
        (rules.json_valid, "[]", "", 1),
        (rules.json_valid, '"text"', "", 0),
        (rules.json_valid, '{"a": NaN}', "", 0),
        (rules.json_valid, 'Here: {"a": 1}', "", 0),
        (rules.json_valid, "[" * 100_000, "", 0),
    ],
)
def test_rules_tell_right_from_wrong(rule, completion: str, answer: str, earned: int):
    assert rule(said(completion, answer)) == earned


@pytest.mark.parametrize(("num_tokens", "earned"), [(0, 0.0), (10, 0.5), (20, 1.0), (30, 0.5), (40, 0.0), (400, 0.0)])
def test_length_falls_to_both_sides(num_tokens: int, earned: float):
    assert rules.length(20)(said("x", num_tokens=num_tokens)) == earned


def test_a_pattern_may_stand_anywhere_and_cross_lines():
    rule = rules.format_rule("<answer>.*</answer>")
    assert rule(said("Well.\n<answer>\n42\n</answer>")) == 1
    assert rule(said("<answer>42")) == 0


def test_a_pattern_that_would_search_for_years_ends_the_run_with_the_row():
    rule = rules.format_rule("(a|aa)+$")
    assert rule(said("aaa")) == 1
    with pytest.raises(ProblemError, match=r"rows\.jsonl:3") as found:
        rule(said("a" * 60 + "!"))
    assert found.value.problems[0].code == "reward.pattern_slow"


def test_a_pattern_that_is_none_is_refused_before_the_start():
    with pytest.raises(ProblemError, match="cannot be read"):
        rules.format_rule("(")


def test_rewards_are_weighed_and_solved_means_all_that_tell():
    section = ReinforcementSection(
        rewards=["number", "format", "length"], weights={"format": 0.5, "length": -1.0}, pattern="####", wished_length=4
    )
    judge = make_judge(section, no_model)
    right, wrong = judge.judge([said("#### 1018", num_tokens=4), said("1018", num_tokens=4)])
    assert (right.parts, right.total, right.solved) == ((1.0, 1.0, 1.0), 0.5, True)
    assert (wrong.parts, wrong.total, wrong.solved) == ((1.0, 0.0, 1.0), 0.0, False)
    assert judge.judge([]) == []


def test_only_rewards_that_tell_right_from_wrong_count_as_solved():
    judge = make_judge(ReinforcementSection(rewards=["length"], wished_length=4), no_model)
    assert judge.judge([said("x", num_tokens=4)])[0].solved is None
    assert not judge.tells_solved


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reward_that_is_no_number_names_its_row(value: float):
    judge = Judge({"model": lambda answers: [value] * len(answers)}, {})
    with pytest.raises(ProblemError, match=r"reward model gave .* rows\.jsonl:3"):
        judge.judge([said("x")])


def written(folder: Path, code: str) -> str:
    path = folder / "mine.py"
    path.write_text(code)
    return str(path)


def test_a_function_of_ones_own_is_asked_with_prompt_completion_and_answer(tmp_path: Path):
    code = (
        "def reward(prompt, completion, answer):\n    return (prompt, completion, answer) == ('How many?', 'two', '2')"
    )
    rule = load_rule(written(tmp_path, code), trusted=True)
    assert rule(said("two", "2")) == 1.0
    assert rule(said("two", "3")) == 0.0
    named = load_rule(
        written(tmp_path, "def score(prompt, completion, answer):\n    return 0.25\n") + ":score", trusted=True
    )
    assert named(said("x")) == 0.25


def test_code_of_ones_own_does_not_run_without_a_yes(tmp_path: Path):
    mark = tmp_path / "ran"
    path = written(tmp_path, f"open({str(mark)!r}, 'w').close()\ndef reward(p, c, a): return 0\n")
    with pytest.raises(ProblemError, match="would run as you"):
        load_rule(path, trusted=False)
    assert not mark.exists()
    load_rule(path, trusted=True)
    assert mark.exists()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = 1\ndef reward(p, c, a)\n", r"line 2, failed while it was loaded \(SyntaxError"),
        ("import no_such_module_here\n", r"line 1, failed while it was loaded \(ModuleNotFoundError"),
        ("reward = 3\n", "has no function reward"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, code: str, says: str):
    with pytest.raises(ProblemError, match=says):
        load_rule(written(tmp_path, code), trusted=True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("    helper(c)\n\ndef helper(c):\n    return c.no_such\n", r"line 5, failed for an answer to rows\.jsonl:3"),
        ("    return None\n", "returned None"),
        ("    return 'one'\n", "returned 'one'"),
    ],
)
def test_an_error_in_ones_own_code_names_line_and_row(tmp_path: Path, body: str, says: str):
    rule = load_rule(written(tmp_path, f"def reward(p, c, a):\n{body}"), trusted=True)
    with pytest.raises(ProblemError, match=says):
        rule(said("x"))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ProblemError, match="does not exist"):
        load_rule(str(tmp_path / "none.py"), trusted=True)


def test_catalogue_and_judge_know_the_same_rewards(tmp_path: Path):
    path = written(tmp_path, "def reward(p, c, a):\n    return 1.0\n")
    section = ReinforcementSection(
        rewards=[reward.name for reward in REWARDS], pattern="x", wished_length=1, reward_model="m", reward_file=path,
        trust_reward_code=True,
    )  # fmt: skip
    judge = make_judge(section, lambda base: lambda answers: [0.5] * len(answers))
    assert judge.names == tuple(reward.name for reward in REWARDS)
    assert len(judge.judge([said("x")])[0].parts) == len(REWARDS)
    with pytest.raises(KeyError):
        find_reward("none")
