"""The X-ray shows what the collator hands to the trainer: roles, padding, segments, cuts, and what stands out."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.data.rendering import Renderer
from engine.data.token_text import PIECE, TokenTexts
from engine.data.xray import runs_of, xray_page
from engine.recipe.schema import Recipe
from tests.engine.chat_templates import CHATML, sentencepiece_tokenizer
from tests.engine.tiny_encoders import wordpiece_tokenizer
from tests.engine.tiny_models import save_tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def pairs(count: int) -> list[dict[str, str]]:
    return [
        {"prompt": f"turn on lamp {number} in the {number % 7} room", "completion": f"on(lamp_{number})"}
        for number in range(count)
    ]


def recipe_of(folder: Path, rows: list[dict[str, Any]], **training: Any) -> Recipe:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": "m"},
            "method": {"name": "lora"},
            "data": {"source": str(file), "held_out": 0.1},
            "training": training,
        }
    )


def spelled(sequence: dict[str, Any], role: str) -> str:
    return "".join(token["text"] for token in sequence["tokens"] if token[role])


def test_trained_special_and_padding_are_read_back_from_the_collator(model: Path, tmp_path: Path) -> None:
    rows = pairs(40)
    rows[3]["completion"] = "on(lamp_3), slowly and with care"
    page = xray_page(recipe_of(tmp_path, rows), str(model), count=40, order="file")
    assert page["total"] == page["num_sequences"] == len(page["sequences"]) == 36
    widths = {sequence["num_tokens"] + sequence["num_padding"] for sequence in page["sequences"]}
    assert len(widths) == 1
    for sequence in page["sequences"]:
        number = int(sequence["row_ids"][0].rsplit(":", 1)[1]) - 1
        assert spelled(sequence, "trained") == f"{rows[number]['completion']}<|im_end|>"
        assert spelled(sequence, "padding") == "<|pad|>" * sequence["num_padding"]
        assert sequence["num_trained"] == sum(token["trained"] for token in sequence["tokens"])
        assert [list(run) for run in sequence["trained_runs"]] == runs_of(
            [token["trained"] for token in sequence["tokens"]]
        )
    assert page["length_from"].startswith("the longest row has")
    assert page["problems"] == []
    assert (page["all_trained"], page["num_rows"], page["num_ended"]) == (False, 36, 36)


def test_pages_follow_each_other_in_every_order(model: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, pairs(40))
    whole = xray_page(recipe, str(model), count=36, order="longest")["sequences"]
    lengths = [sequence["num_tokens"] for sequence in whole]
    assert lengths == sorted(lengths, reverse=True)
    paged = [xray_page(recipe, str(model), start=at, count=10, order="longest") for at in (0, 10, 20, 30)]
    assert [each["number"] for page in paged for each in page["sequences"]] == [each["number"] for each in whole]
    assert xray_page(recipe, str(model), start=36, count=10, order="file")["sequences"] == []
    assert xray_page(recipe, str(model), count=3, order="cut")["total"] == 0


def test_packed_rows_are_told_apart_by_the_positions(model: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, pairs(40), packing=True, max_length=128)
    page = xray_page(recipe, str(model), count=3)
    assert page["packed"]
    for sequence in page["sequences"]:
        real = [token for token in sequence["tokens"] if not token["padding"]]
        assert [token["segment"] for token in real] == sorted(token["segment"] for token in real)
        assert len({token["segment"] for token in real}) == len(sequence["row_ids"]) > 1
        ends = [token["segment"] for token in real if token["trained"] and token["text"] == "<|im_end|>"]
        assert ends == list(range(len(sequence["row_ids"])))


def test_cut_rows_tell_what_they_lost(model: Path, tmp_path: Path) -> None:
    rows = pairs(40)
    rows[5]["completion"] = "so " * 100
    page = xray_page(recipe_of(tmp_path, rows, max_length=64), str(model), order="cut")
    assert (page["total"], page["num_cut"], page["length_from"]) == (1, 1, "you")
    assert (page["num_rows"], page["num_ended"]) == (36, 35)
    (sequence,) = page["sequences"]
    assert (sequence["num_tokens"], sequence["num_lost"] > 0) == (64, True)
    assert any("the answer is cut" in reason for reason in sequence["reasons"])
    assert not sequence["tokens"][-1]["special"]


def test_text_is_all_trained_but_what_begins_a_row(model: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, [{"text": f"turn on lamp {number} in the hall"} for number in range(40)])
    page = xray_page(recipe.model_copy(update={"objective": "domain-adaptation"}), str(model))
    assert page["all_trained"]
    assert 0 < page["trained_share"] < 1


def test_rare_rows_stand_out_with_their_reason_and_clean_ones_do_not(model: Path, tmp_path: Path) -> None:
    clean = xray_page(recipe_of(tmp_path, pairs(200)), str(model), order="odd")
    assert (clean["num_odd"], clean["sequences"]) == (0, [])
    rows = pairs(200)
    rows[10]["prompt"] = "what does <|im_start|> mean"
    rows[20]["prompt"] = "turn on the lam\ufffdp"
    rows[30]["prompt"] = "turn on " * 200
    rows[40]["completion"] = "on(lamp_50)"
    odd = xray_page(recipe_of(tmp_path, rows), str(model), order="odd", count=20)
    reasons = {each["row_ids"][0].rsplit(":", 1)[1]: " ".join(each["reasons"]) for each in odd["sequences"]}
    expected = {"11": "special token <|im_start|>", "21": "lost earlier", "31": "times as long", "51": "answers as"}
    held = xray_page(recipe_of(tmp_path, rows), str(model), count=400)["sequences"]
    present = {each["row_ids"][0].rsplit(":", 1)[1] for each in held}
    for row, words in expected.items():
        if row in present and (row != "51" or "41" in present):
            assert words in reasons[row]
    assert set(reasons) <= set(expected)


def test_blocking_findings_come_with_the_page(model: Path, tmp_path: Path) -> None:
    rows = [{**row, "prompt": "why " * 60} if number % 2 else row for number, row in enumerate(pairs(60))]
    page = xray_page(recipe_of(tmp_path, rows, max_length=48), str(model))
    found = {problem["code"]: problem["severity"] for problem in page["problems"]}
    assert found["preflight.p7"] == "error"
    assert page["num_dropped"] > 0


@pytest.mark.parametrize("make", [tiny_tokenizer, lambda: sentencepiece_tokenizer(CHATML)], ids=["bytes", "pieces"])
def test_characters_of_several_tokens_are_readable(make: Any) -> None:
    tokenizer = make()
    ids = Renderer(tokenizer, 999).prompt_ids_of("Yes 😀字é so", conversation=False)
    texts = TokenTexts(tokenizer).of(ids)
    assert len(texts) == len(ids)
    assert "\ufffd" not in "".join(texts)
    if make is tiny_tokenizer:
        assert "".join(text for text in texts if text != PIECE) == "Yes 😀字é so"


def test_words_of_wordpiece_stand_apart() -> None:
    tokenizer = wordpiece_tokenizer(["the lamp is on", "lamps a red door"], vocab_size=60)
    ids = tokenizer("the doors a lamp")["input_ids"]
    assert any(token.startswith("##") for token in tokenizer.convert_ids_to_tokens(ids))
    assert "".join(TokenTexts(tokenizer).of(ids)) == "[CLS]the doors a lamp[SEP]"


def test_a_broken_character_stays_one_token() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("字", add_special_tokens=False)["input_ids"][:2]
    assert TokenTexts(tokenizer).of(ids) == ["\ufffd", "\ufffd"]


ASKED = "turn on lamp {} in the hall"
COMPARED: dict[str, tuple[str, dict[str, Any], str, set[str]]] = {
    "pairs": (
        "preference",
        {"chosen": "on", "rejected": "no, thank you"},
        "Pairs: better answers become likelier.",
        {"the better answer", "the worse answer"},
    ),
    "marked": (
        "preference",
        {"completion": "on", "label": True},
        "Good answers become likelier, bad ones rarer.",
        {"a good answer", "a bad answer"},
    ),
    "rewards": (
        "reward-model",
        {"chosen": "on", "rejected": "no, thank you"},
        "Pairs: better answers are to score higher.",
        {"the better answer", "the worse answer"},
    ),
    "prompts": (
        "reinforcement-learning",
        {},
        "Prompts: the model writes the answers.",
        {"the model writes the answers"},
    ),
}


@pytest.mark.parametrize("name", COMPARED)
def test_what_is_learnt_of_answers_is_said_and_not_counted_in_tokens(model: Path, tmp_path: Path, name: str) -> None:
    objective, columns, learnt, learns = COMPARED[name]
    rows = [{"prompt": ASKED.format(number), **columns} for number in range(40)]
    for row in rows[::3]:
        if "label" in row:
            row["label"] = False
    recipe = recipe_of(tmp_path, rows).model_copy(update={"objective": objective})
    page = xray_page(recipe, str(model), count=100, order="file")
    assert page["learnt"] == learnt
    assert {sequence["learns"] for sequence in page["sequences"]} == learns
    # A score is read off the end of a text; no token of it is learnt.
    marked = any(token["trained"] for sequence in page["sequences"] for token in sequence["tokens"])
    assert marked == (objective == "preference")
