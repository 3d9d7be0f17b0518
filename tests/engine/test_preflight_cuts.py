"""P7 tells of every shape of row what the renderer does with rows that are too long, and P15 counts what differs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from engine.catalog.tasks import Task, task_of
from engine.data.preflight import check_rendering
from engine.data.preflight_case import PreflightCase
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.data.tokenized import tokenize
from engine.objectives.source_batches import SourceCollator
from engine.planning.profiles import PreflightCheck
from engine.recipe.schema import Recipe
from tests.engine.chat_templates import THINKING, byte_level_tokenizer
from tests.engine.label_rows import all_words, class_rows, several_rows, tag_rows
from tests.engine.made_pairs import marked_rows, pair_rows
from tests.engine.tiny_encoders import wordpiece_tokenizer
from tests.engine.tiny_kinds import BART, T5, masked_tokenizer, pair_tokenizer
from tests.engine.tiny_models import command_rows, text_rows, tiny_tokenizer

UNCUT = 1 << 30
COUNT = 40
LONG = " and then the other one" * 8


def numbered(rows: list[dict]) -> list[Row]:
    return [{"id": f"made.jsonl:{number + 1}", **row} for number, row in enumerate(rows)]


def talks() -> list[Row]:
    """Return conversations of which some have a long question, some a long answer and some two answers."""
    rows = command_rows(COUNT)
    for number, row in enumerate(rows):
        ask, answer = row["messages"]
        if number % 7 == 0:
            row["messages"][0] = ask | {"content": ask["content"] + LONG}
        if number % 5 == 0:
            row["messages"][1] = answer | {"content": answer["content"] + LONG}
        if number % 3 == 0:
            row["messages"] += [{"role": "user", "content": "and?"}, {"role": "assistant", "content": f"no({number})"}]
    return rows


def one_turn() -> list[Row]:
    return [row | {"messages": row["messages"][:2]} for row in talks()]


def lengthened(rows: list[Row], key: str) -> list[Row]:
    """Return rows of which some have a long prompt and some a long answer."""
    for number, row in enumerate(rows):
        if number % 6 == 0:
            row["prompt"] = [{"role": "user", "content": row["prompt"][0]["content"] + LONG}]
        if number % 5 == 0:
            row[key] = [{"role": "assistant", "content": row[key][0]["content"] + LONG}]
    return rows


def prompts() -> list[Row]:
    return [{"id": row["id"], "prompt": row["messages"][:1]} for row in talks()]


def tagged() -> list[Row]:
    rows = [{"tokens": row["words"], "tags": row["ner_tags"]} for row in tag_rows(COUNT)]
    for row in rows[::6]:
        row["tokens"], row["tags"] = row["tokens"] * 3, row["tags"] * 3
    return numbered(rows)


def labelled(several: bool) -> list[Row]:
    rows = several_rows(COUNT) if several else class_rows(COUNT)
    return numbered([{"text": row["text"], ("labels" if several else "label"): row["label"]} for row in rows])


def words() -> PreTrainedTokenizerBase:
    return wordpiece_tokenizer(all_words())


TAGS = ("B-COLOUR", "B-PLACE", "I-PLACE", "O")
CLASSES = ("food", "sport", "travel")
SHAPES: dict[str, tuple[Any, Any, Task]] = {
    "chat": (talks, tiny_tokenizer, task_of("chat", "decoder")),
    "chat with a template that rewrites answers": (
        talks,
        lambda: byte_level_tokenizer(THINKING),
        task_of("chat", "decoder"),
    ),
    "text in chat": (lambda: text_rows(COUNT), tiny_tokenizer, task_of("chat", "decoder")),
    "text": (lambda: text_rows(COUNT), tiny_tokenizer, task_of("domain-adaptation", "decoder")),
    "hidden words": (lambda: text_rows(COUNT), masked_tokenizer, task_of("domain-adaptation", "encoder")),
    "text to text, t5": (one_turn, lambda: pair_tokenizer(T5), task_of("text-to-text", "encoder-decoder")),
    "text to text, bart": (one_turn, lambda: pair_tokenizer(BART), task_of("text-to-text", "encoder-decoder")),
    "text to text, decoder": (one_turn, tiny_tokenizer, task_of("text-to-text", "decoder")),
    "classes": (lambda: labelled(False), words, task_of("classification", "encoder", CLASSES)),
    "several classes": (
        lambda: labelled(True),
        words,
        task_of("classification", "encoder", CLASSES, multi_label=True),
    ),
    "classes, decoder": (lambda: labelled(False), tiny_tokenizer, task_of("classification", "decoder", CLASSES)),
    "tags": (tagged, words, task_of("token-classification", "encoder", TAGS)),
    "pairs": (lambda: lengthened(pair_rows(COUNT), "chosen"), tiny_tokenizer, task_of("preference", "decoder")),
    "marked": (lambda: lengthened(marked_rows(COUNT), "completion"), tiny_tokenizer, task_of("preference", "decoder")),
    "rewards": (lambda: lengthened(pair_rows(COUNT), "rejected"), tiny_tokenizer, task_of("reward-model", "decoder")),
    "prompts": (prompts, tiny_tokenizer, task_of("reinforcement-learning", "decoder")),
}
GO_ON = {"text", "hidden words", "text in chat"}


def case_of(name: str, max_length: int, max_target: int | None = None, *, copies: int = 1) -> PreflightCase:
    make_rows, make_tokenizer, task = SHAPES[name]
    rows = make_rows()
    rows = [row for row in rows for _ in range(copies)]
    renderer = Renderer(make_tokenizer(), UNCUT, task=task)
    tree = {"objective": "chat", "model": {"base": "m"}, "method": {"name": "lora"}, "data": {"source": "r.jsonl"}}
    return PreflightCase(
        recipe=Recipe.model_validate(tree),
        renderer=renderer,
        train_rows=rows,
        held_out_rows=[],
        whole=tokenize(rows, renderer).cut(UNCUT),
        max_length=max_length,
        max_target=max_target,
        vocab_size=len(renderer.tokenizer),
    )


def check(case: PreflightCase, check_id: str = "P7") -> PreflightCheck:
    return next(each for each in check_rendering(case) if each.id == check_id)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("max_length", [UNCUT, 60, 40, 25, 14, 8])
@pytest.mark.parametrize("name", SHAPES)
def test_the_verdict_counts_what_the_renderer_cuts_and_leaves_out(name: str, max_length: int, copies: int) -> None:
    max_target = 12 if name.startswith("text to text") and max_length != UNCUT else None
    case = case_of(name, max_length, max_target, copies=copies)
    renderer = Renderer(case.renderer.tokenizer, max_length, task=case.renderer.task, max_target=max_target)
    real = renderer.render_rows(case.train_rows)
    kept = {each.id for each in real.sequences}
    cut = {each.id for each in real.sequences if each.cut}
    left_out = {row["id"] for row in case.train_rows} - kept
    found = check(case)
    assert found.measured["sequences_cut"] == real.num_cut
    assert found.measured["rows_left_out"] == copies * len(left_out)
    assert found.measured["answers_lost"] == real.dropped.total()
    assert cut | left_out <= set(found.rows) or len(found.rows) == 20
    some = bool(cut or left_out)
    assert found.measured["rows_cut"] >= copies * len(cut | left_out) > 0 if some else not found.measured["rows_cut"]
    assert (found.status == "passed") == (not some)
    assert ("nothing is cut" in found.message) == (name in GO_ON)


def test_no_length_cuts_some_of_every_shape_and_another_none() -> None:
    for name in set(SHAPES) - GO_ON:
        assert check(case_of(name, UNCUT)).status == "passed", name
        assert check(case_of(name, 8, 4)).status != "passed", name


def test_pairs_that_are_left_out_are_told_from_answers_that_are_cut() -> None:
    case = case_of("pairs", 50)
    real = Renderer(case.renderer.tokenizer, 50, task=case.renderer.task).render_rows(case.train_rows)
    gone = real.dropped.total()
    found = check(case)
    assert 0 < gone < COUNT
    assert f"At 50 tokens {gone} rows are left out, because nothing is left of an answer (made.jsonl:1" in found.message
    assert f"{real.num_cut} of the other {2 * (COUNT - gone)} answers with their prompts are cut" in found.message
    assert (found.status, "training.max_length" in found.fix) == ("warning", True)


def test_a_length_that_the_model_cannot_read_is_not_advised() -> None:
    case = case_of("pairs", 14)
    assert "Set training.max_length higher" in check(case).fix
    assert "the model reads 20)" in check(replace(case, context_length=20)).fix
    full = check(replace(case, context_length=14)).fix
    assert full.startswith("Take a model that reads more than 14 tokens")
    assert "training.max_length" not in full


def test_a_prompt_without_room_for_an_answer_is_left_out_and_said_so() -> None:
    found = check(case_of("prompts", 40))
    assert found.message == (
        "6 prompts have more than 40 tokens, which leaves no room for an answer: 15 % of 40 rows are left out."
    )
    assert "reinforcement.max_completion lower" in found.fix


@pytest.mark.parametrize("name", ["classes", "text to text, t5"])
def test_the_way_out_is_one_that_the_model_can_go(name: str) -> None:
    case = case_of(name, 8, 12 if name.startswith("text to text") else None)
    assert check(case).fix.startswith("Set training.max_length higher")
    assert check(replace(case, context_length=64)).fix.startswith("Set training.max_length higher")
    assert check(replace(case, context_length=8)).fix.startswith("Take a model that reads more than 8 tokens")


def test_the_class_of_a_cut_text_is_still_learnt() -> None:
    found = check(case_of("classes", 8))
    assert "the class is learnt from what is left of the text" in found.message
    assert found.measured["answers_lost"] == 0


def test_tags_behind_the_length_are_lost_and_a_row_without_any_is_left_out() -> None:
    assert "7 lose the tags of their last words (made.jsonl:1" in check(case_of("tags", 14)).message
    # All that is left of a text is the token in front of its first word.
    assert "40 have no tag left (made.jsonl:1" in check(case_of("tags", 1)).message


def test_sources_and_texts_to_write_have_each_their_length() -> None:
    found = check(case_of("text to text, t5", 30, 20))
    assert "6 sources have more than 30 tokens (made.jsonl:1" in found.message
    assert "8 texts to write have more than 20 tokens (made.jsonl:1" in found.message
    assert "training.max_length" in found.fix
    assert "text_to_text.max_target_length" in found.fix
    only = check(case_of("text to text, t5", 500, 20))
    assert "training.max_length" not in only.fix


def test_of_an_answer_of_several_the_row_is_not_said_to_be_left_out() -> None:
    found = check(case_of("chat with a template that rewrites answers", 60))
    assert "lose one of their answers" in found.message


def test_labels_of_pairs_are_looked_at_behind_sources_longer_than_the_sequence_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = SourceCollator.__call__

    def without_ends(self: SourceCollator, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = whole(self, rows)
        return batch | {"labels": batch["labels"][:, :-1]}

    case = case_of("text to text, t5", 4)
    assert check(case, "P3").status == "passed"
    monkeypatch.setattr(SourceCollator, "__call__", without_ends)
    assert check(case, "P3").status == "blocked"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("chat", "40 different rows with 40 different answers."),
        ("text", "40 different rows."),
        ("classes", "40 different rows with 3 different classes."),
        ("several classes", "40 different rows with 8 different sets of classes."),
        ("pairs", "40 different rows with 40 different pairs of answers."),
        ("marked", "40 different rows."),
        ("prompts", "40 different rows."),
    ],
)
def test_what_differs_is_called_by_its_name(name: str, said: str) -> None:
    assert check(case_of(name, UNCUT), "P15").message == said
