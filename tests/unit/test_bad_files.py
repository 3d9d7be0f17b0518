"""The forty kinds of bad files, each in several variants: told before training, with place, cause and next action."""

import re
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from engine.data.cleaning.clean import RowChecks
from engine.data.cleaning.facts import facts_of
from engine.data.conversations import canonical_rows
from engine.data.formats import Shape, candidates
from engine.data.pipeline import prepare
from engine.data.readers import open_source
from engine.data.rows import Tally
from engine.data.shapes_checks import label_findings
from engine.data.sources import read_sources
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import CleaningSection
from tests.unit.bad_file_cases import JSON_CASES
from tests.unit.bad_files import TOKEN, Case, lines, pairs, put, table
from tests.unit.bad_row_cases import BROKEN_PREFERENCES, ROW_CASES
from tests.unit.bad_table_cases import PATH_CASES, TABLE_CASES

CASES = [*JSON_CASES, *TABLE_CASES, *PATH_CASES, *ROW_CASES]
REFUSED = [case for case in CASES if case.blocks]
TOLD = [case for case in CASES if not case.blocks]


def recipe_of(case: Case, folder: Path) -> Recipe:
    data = case.data(folder) if callable(case.data) else case.data
    tree: dict[str, Any] = {"objective": case.objective, "model": {"base": "m"}, "training": {"seed": 5}}
    return Recipe.model_validate({**tree, "data": {"source": case.make(folder), **data}})


def check_words(texts: list[str]) -> None:
    """Nothing that is said holds a trace, a token of the rows or a control character."""
    for text in texts:
        assert TOKEN not in text
        assert "Traceback" not in text
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", text), text


@pytest.mark.parametrize("case", REFUSED, ids=[case.defect for case in REFUSED])
def test_file_is_refused_with_place_cause_and_fix(case, tmp_path):
    with pytest.raises(ProblemError) as caught:
        prepare(recipe_of(case, tmp_path))
    problem: Problem = caught.value.problems[0]
    assert problem.severity == "error"
    assert problem.code.startswith("data.")
    assert problem.path.startswith("data.")
    assert re.search(case.says, problem.message), problem.message
    assert re.search(case.fix, problem.fix), problem.fix
    check_words([text for each in caught.value.problems for text in (each.message, each.fix)])


@pytest.mark.parametrize("case", TOLD, ids=[case.defect for case in TOLD])
def test_rows_are_used_or_counted_and_the_defect_is_told(case, tmp_path):
    profile = prepare(recipe_of(case, tmp_path)).profile
    found = [finding for finding in profile.findings if re.search(case.says, finding.message)]
    assert found, [finding.message for finding in profile.findings]
    assert found[0].severity == case.severity
    assert re.search(case.fix, found[0].fix)
    assert profile.dropped == case.dropped
    held_apart = callable(case.data)
    assert profile.num_train + (0 if held_apart else profile.num_held_out) + sum(profile.dropped.values()) == (
        profile.num_rows - (profile.num_held_out if held_apart else 0)
    )
    check_words([text for each in profile.findings for text in (each.message, each.fix)])


@pytest.mark.parametrize(("rows", "reason"), BROKEN_PREFERENCES.values(), ids=BROKEN_PREFERENCES.keys())
def test_preference_or_label_that_teaches_nothing_is_left_out_by_line(rows, reason, tmp_path):
    (file,) = read_sources([put("p.jsonl", lines(rows))(tmp_path)])
    best = candidates(file.rows)[0]
    dropped = Tally()
    usable = canonical_rows(file.rows, Shape(best.format, best.mapping, ""), dropped, Tally())
    assert dropped.places == {reason: ["p.jsonl:4"]}
    assert len(usable) == len(rows) - 1


@pytest.mark.parametrize("held_out_label", ["lots", "LATE"])
def test_labels_that_cannot_be_learned_are_told(held_out_label):
    """D29: one label in training is nothing to tell apart; a label of held-out rows alone was never taught."""
    train = [{"id": f"t.csv:{n}", "text": f"Parcel {n}", "label": "late"} for n in range(2, 9)]
    held = [{"id": "h.csv:5", "text": "Parcel 77", "label": held_out_label}]
    single, unseen = label_findings(train, held)
    assert (single.severity, unseen.severity) == ("error", "warning")
    assert "'late' (from t.csv:2 on)" in single.message
    assert f"({held_out_label!r}): h.csv:5" in unseen.message


@pytest.mark.parametrize("rated", [True, False])
def test_one_question_with_contradictory_labels_is_told(rated):
    """D26, also where the label says whether an answer is a good one."""
    rows: list[dict[str, Any]] = []
    for n in range(60):
        asked = {"prompt": [{"role": "user", "content": f"Why {n // 2}?"}]}
        answer = {"completion": [{"role": "assistant", "content": "So."}], "label": n % 2 == 0}
        rows.append({"id": f"k.jsonl:{n + 1}"} | (asked | answer if rated else {"text": f"{n // 2} x", "label": n % 2}))
    facts = facts_of(rows, with_languages=True)
    (outcome,) = [
        outcome
        for outcome in RowChecks(rows, facts, CleaningSection(), 1, Tally()).run().outcomes
        if outcome.name == "contradictions"
    ]
    assert outcome.severity == "warning"
    assert outcome.count >= 30
    assert "k.jsonl:1" in outcome.message


def test_a_table_cut_at_semicolons_or_tabs_is_read_and_says_so(tmp_path):
    """D33: the same rows whatever parts the cells, with the reason in words."""
    words = {";": "semicolon", "\t": "tab", "|": "bar"}
    for delimiter, word in words.items():
        source = put("t.csv", table(pairs(), delimiter))(tmp_path)
        (file,) = read_sources([source])
        assert [row.values for row in file.rows] == pairs()
        assert word in file.evidence


def test_answers_that_other_readers_take_for_nothing_stay_what_they_are(tmp_path):
    """D35: `NA`, `None`, `null` and `NaN` are answers, and so are numbers with zeros in front or behind."""
    answers = ["NA", "None", "null", "NaN", "N/A", "nan", "-", "007", "1.10", "1e5", "TRUE", "#N/A"]
    rows = [{"prompt": f"Which code has parcel {n}?", "completion": answer} for n, answer in enumerate(answers * 3)]
    for name, content in (("a.csv", table(rows)), ("a.tsv", table(rows, "\t")), ("a.jsonl", lines(rows))):
        prepared = prepare(recipe_of(Case("D35", put(name, content), ""), tmp_path))
        said = sorted(row["messages"][-1]["content"] for row in (*prepared.train_rows, *prepared.held_out_rows))
        assert said == sorted(answers * 3)
        assert prepared.profile.dropped == {}


def test_a_column_of_numbers_alone_is_no_defect(tmp_path):
    """D30, the other way round: sums are numbers in every row."""
    rows = [{"prompt": f"What is {n} and 5?", "completion": n + 5} for n in range(60)]
    profile = prepare(recipe_of(Case("D30", put("n.jsonl", lines(rows)), ""), tmp_path)).profile
    assert [finding.message for finding in profile.findings if finding.severity != "note"] == []


def test_a_few_rows_with_other_names_do_not_rename_the_columns_of_all(tmp_path):
    rows = [*pairs(), {"Question": "Why?", "Answer": "So."}, {"instruction": "Why?", "output": "So."}]
    profile = prepare(recipe_of(Case("D15", put("r.jsonl", lines(rows)), ""), tmp_path)).profile
    assert profile.mapping == {"prompt": "prompt", "completion": "completion"}
    assert profile.dropped == {"missing_column": 2}


def test_a_column_that_comes_two_hundred_thousand_rows_late_is_there(tmp_path):
    """D31: what a row holds is that row's own, wherever it stands."""
    path = tmp_path / "late.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"prompt": "{n}?", "completion": "{n}."}}\n' for n in range(200_000))
        file.write('{"prompt": "late?", "completion": "yes.", "system": "Be brief."}\n')
    with open_source(path) as source:
        last = deque(source, maxlen=1)[0]
    assert (last.where, last.values["system"]) == ("late.jsonl:200001", "Be brief.")


BY_TESTS_OF_THEIR_OWN = ("D26", "D27", "D28", "D29", "D30", "D31", "D33", "D35")


def test_no_kind_of_the_catalogue_is_missing():
    there = {case.defect.split()[0] for case in CASES} | set(BY_TESTS_OF_THEIR_OWN)
    assert sorted({f"D{number:02}" for number in range(1, 41)} - there) == []
