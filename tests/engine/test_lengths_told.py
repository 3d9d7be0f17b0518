"""Lengths of every shape of row: what an answer has of its own, and one story of what is cut and what is left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data import profile as measuring
from engine.data.lengths import estimate_lengths
from engine.data.pipeline import prepare
from engine.data.profile import profile_data
from engine.data.rendering import Renderer
from engine.data.report import markdown_report, subject_of
from engine.data.tokenized import tokenize
from engine.data.xray import xray_page
from engine.planning.data_words import answers_words, cut_rows, measured_words
from engine.planning.findings import data_findings
from engine.planning.model_folder import profile_folder
from engine.planning.profiles import DataProfile
from engine.recipe.schema import Recipe
from tests.engine.test_preflight_cuts import GO_ON, SHAPES
from tests.engine.tiny_kinds import T5, save_pair_model
from tests.engine.tiny_models import command_rows, tiny_tokenizer
from tui.verbs.data_text import length_lines
from tui.wizard.lengths import cut_sentence, cut_words

LENGTH = 60


def talks(count: int) -> list[dict[str, Any]]:
    """Return rows as people have them: long questions, and now and then a long answer."""
    rows = []
    for number, row in enumerate(command_rows(count)):
        ask, answer = (turn["content"] for turn in row["messages"])
        longer = " and the other one" * (number % 9)
        rows.append({"prompt": f"{ask} {number}{longer}", "completion": answer + " or so" * (number % 5)})
    return rows


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "no" + " thank you" * (number % 30)}
        for number, row in enumerate(talks(count))
    ]


def recipe_of(folder: Path, rows: list[dict[str, Any]], model: Path, objective: str, **training: Any) -> Recipe:
    source = folder / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    return Recipe.model_validate(
        {
            "objective": objective,
            "model": {"base": str(model)},
            "method": {"name": "lora"},
            "data": {"source": str(source)},
            "training": {"max_length": LENGTH, **training},
            **({"reinforcement": {"max_completion": 10}} if objective == "reinforcement-learning" else {}),
        }
    )


OWN = {
    "chat": (talks, ("completion",), "answers: median"),
    "preference": (pairs, ("chosen", "rejected"), "answers: median"),
    "reward-model": (pairs, ("chosen", "rejected"), "answers: median"),
}


@pytest.mark.parametrize("objective", OWN)
def test_answers_are_measured_without_their_prompts(objective: str, tmp_path: Path, tiny_model_folder: Path) -> None:
    make_rows, sides, words = OWN[objective]
    recipe = recipe_of(tmp_path, make_rows(60), tiny_model_folder, objective)
    tokenizer = tiny_tokenizer()
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    # The token that ends the turn is learnt too.
    own = {text: len(tokenizer(text)["input_ids"]) + 1 for row in rows for text in (row[side] for side in sides)}
    counted, guessed = profile_data(recipe, folder=str(tiny_model_folder)), profile_data(recipe)
    used = [
        own[turn["content"]]
        for row in prepare(recipe).train_rows
        for turn in [*row.get("messages", ())[1:], *row.get("chosen", ()), *row.get("rejected", ())]
    ]
    assert counted.answer_lengths is not None
    assert (counted.answer_lengths.count, counted.answer_lengths.longest) == (len(used), max(used))
    assert counted.answer_lengths.total == sum(used)
    assert guessed.answer_lengths is not None
    assert 0.3 < guessed.answer_lengths.mean / counted.answer_lengths.mean < 1.5
    assert guessed.lengths is not None
    assert guessed.answer_lengths.mean < 0.7 * guessed.lengths.mean
    assert answers_words(counted).startswith(words)
    assert any(words in line for line in length_lines(counted))
    assert words in markdown_report(subject_of(recipe), counted).lower()


def test_the_target_of_a_pair_is_measured_without_its_source(tmp_path: Path) -> None:
    model = save_pair_model(tmp_path / "t5", T5)
    recipe = recipe_of(tmp_path, talks(40), model, "text-to-text")
    counted = profile_data(recipe, folder=str(model))
    assert counted.lengths is not None
    assert counted.answer_lengths is not None
    assert counted.source_lengths is not None
    assert counted.lengths.total == counted.answer_lengths.total + counted.source_lengths.total
    assert measured_words(counted) == "row, source and target together"


def test_prompts_are_estimated_without_answers_that_the_model_writes_itself() -> None:
    rows = command_rows(20)
    whole, answers = estimate_lengths(rows)
    asked, right = estimate_lengths(rows, prompts=True)
    assert whole is not None
    assert answers is not None
    assert asked is not None
    assert right is not None
    assert asked.total < whole.total
    assert right.total == answers.total
    two = [row | {"messages": row["messages"] * 2} for row in rows]
    last = estimate_lengths(two, prompts=True)[1]
    assert last is not None
    assert last.total == right.total


@pytest.mark.parametrize("max_length", [60, 40, 14, 8])
@pytest.mark.parametrize("name", SHAPES)
def test_what_a_length_cuts_and_leaves_out_is_what_the_renderer_does(name: str, max_length: int) -> None:
    make_rows, make_tokenizer, task = SHAPES[name]
    rows, tokenizer = make_rows(), make_tokenizer()
    cut = tokenize(rows, Renderer(tokenizer, 12, task=task)).cut_at(max_length)
    real = Renderer(tokenizer, max_length, task=task).render_rows(rows)
    left_out = {row["id"] for row in rows} - {each.id for each in real.sequences}
    assert (cut.num_kept, cut.num_left_out) == (real.num_cut, len(left_out))
    assert cut.num_cut >= real.num_cut
    assert (cut.num_cut == 0) == (not real.num_cut and not left_out)
    assert name not in GO_ON or cut.num_cut == 0


@pytest.mark.parametrize("objective", ["chat", "preference", "reinforcement-learning"])
def test_plan_xray_and_run_tell_one_story(objective: str, tmp_path: Path, tiny_model_folder: Path) -> None:
    recipe = recipe_of(tmp_path, pairs(90) if objective == "preference" else talks(90), tiny_model_folder, objective)
    profile = profile_data(recipe, folder=str(tiny_model_folder))
    model = profile_folder(tiny_model_folder, base=str(tiny_model_folder))
    # The plan tells it once: as the rows themselves do, or where nobody rendered them at this length, from the counts.
    told_once = [each for each in data_findings(recipe, model, profile) if "tokens" in each.message]
    counted = profile.model_copy(update={"findings": [], "preflight": []})
    (said,) = [each.message for each in data_findings(recipe, model, counted) if each.code == "data.rows_cut"]
    page = xray_page(recipe, str(tiny_model_folder))
    (checked,) = [each for each in profile.preflight if each.id == "P7"]
    cut, left_out = page["num_cut"], page["num_dropped"]
    assert [each.message for each in told_once] == [checked.message]
    assert checked.measured["sequences_cut"] == cut
    assert checked.measured["rows_left_out"] == left_out
    assert not said.startswith("About")
    if objective == "reinforcement-learning":
        assert left_out > 0 == cut
        assert said.startswith(f"{left_out} of {profile.num_train} prompts")
        assert "more than 50 tokens, which leaves no room for an answer, and will be left out" in said
        return
    assert cut > 0
    if objective == "preference":
        assert left_out > 0
        assert f"answers with their prompts ({profile.cut_at(LENGTH).num_cut / (2 * profile.num_train):.1%})" in said
        assert f": {cut} will be cut, and {left_out} row" in said
        assert f"{cut} of the other {page['num_sequences']} answers with their prompts are cut" in checked.message
    (row,) = [each for each in cut_rows(profile) if each.length == LENGTH]
    lost = f"{left_out} row{'s' if left_out != 1 else ''}"
    told = cut_sentence(row, estimated=False, compared=profile.compared)
    assert (f"{lost} are left out" in told or f"{lost} is left out" in told) == (left_out > 0)
    assert (f"{lost} left out" in cut_words(row, estimated=False)) == (left_out > 0)


def test_shares_of_a_sample_are_those_of_all_rows(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, talks(200), tiny_model_folder, "chat")
    whole = shares(profile_data(recipe, folder=str(tiny_model_folder)))
    monkeypatch.setattr(measuring, "MEASURED_ROWS", 60)
    monkeypatch.setattr(measuring, "MEASURED_CHARS", 1)
    drawn = profile_data(recipe, folder=str(tiny_model_folder))
    assert drawn.lengths is not None
    assert drawn.lengths.count == 60
    assert drawn.cuts[0].sampled
    found = shares(drawn)
    assert max(found.values()) <= 1
    assert {length: pytest.approx(whole[length], abs=0.2) for length in found.keys() & whole.keys()} == {
        length: found[length] for length in found.keys() & whole.keys()
    }


def shares(profile: DataProfile) -> dict[int, float]:
    return {row.length: row.share for row in cut_rows(profile)}
