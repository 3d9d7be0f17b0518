"""The draft: answers, sources, steps, and a file that survives anything."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten
from tui.wizard.draft import (
    KEPT_DRAFTS,
    STEPS,
    Draft,
    draft_from_json,
    draft_to_json,
    forget_draft,
    new_draft,
    newest_draft,
    save_draft,
    step_of,
)


def test_what_the_person_says_lies_over_the_preset() -> None:
    draft = new_draft(preset="small", preset_tree={"training": {"epochs": 5.0, "seed": 1}})
    answered = draft.with_value("training.epochs", 2.0)
    assert answered.value("training.epochs") == 2.0
    assert str(answered.source("training.epochs")) == "you"
    assert str(answered.source("training.seed")) == "preset small"
    assert str(answered.source("training.warmup")) == "default"
    assert draft.value("training.epochs") == 5.0, "the old draft must not change"
    assert answered.without("training.epochs").value("training.epochs") == 5.0


def test_the_layered_recipe_carries_every_answer_and_its_source() -> None:
    draft = new_draft(preset="small", preset_tree={"training": {"seed": 1}}, you={"objective": "chat"})
    draft = draft.with_value("data.mapping", {"prompt": "q"})
    layered = draft.layered
    assert layered.tree == {"training": {"seed": 1}, "objective": "chat", "data": {"mapping": {"prompt": "q"}}}
    assert {path: str(source) for path, source in layered.sources.items()} == {
        "training.seed": "preset small",
        "objective": "you",
        "data.mapping": "you",
    }


def test_another_option_takes_back_what_the_option_before_it_set() -> None:
    draft = new_draft().with_value("training.epochs", 2.0)
    first = draft.taking({"method.name": "qlora", "training.optimizer": "paged_adamw_8bit"})
    assert draft_from_json(draft_to_json(first)).taken == first.taken
    second = first.taking({"method.name": "lora"})
    assert second.you == {"training.epochs": 2.0, "method.name": "lora"}


def test_own_answers_that_an_option_replaced_come_back_with_the_next_one() -> None:
    draft = new_draft().with_values({"method.rank": 32, "method.name": "lora"})
    full = draft.taking({"method.name": "full", "method.rank": None})
    assert full.you == {"method.name": "full", "method.rank": None}
    assert draft_from_json(draft_to_json(full)) == full
    assert full.taking({"method.name": "qlora"}).you == {"method.name": "qlora", "method.rank": 32}
    assert full.with_value("method.rank", 8).taking({"method.name": "lora"}).you["method.rank"] == 8
    assert full.untaken().you == draft.you


def test_unanswered_takes_back_person_and_preset() -> None:
    draft = new_draft(preset="p", preset_tree={"method": {"name": "lora"}}).with_value("method.name", "full")
    assert draft.unanswered("method.name").value("method.name") is None


def test_what_the_person_sets_after_taking_an_option_stays() -> None:
    draft = new_draft().taking({"method.name": "qlora", "training.optimizer": "paged_adamw_8bit"})
    typed = draft.with_value("training.optimizer", "adamw").taking({"method.name": "lora"})
    assert typed.you == {"training.optimizer": "adamw", "method.name": "lora"}


def test_a_draft_from_before_options_could_be_taken_is_read() -> None:
    document = draft_to_json(new_draft(you={"objective": "chat"}))
    del document["taken"]
    assert draft_from_json(document).taken == frozenset()
    document["taken"] = [["objective"], "objective", 3, "gone"]
    assert draft_from_json(document).taken == {"objective"}


def test_every_recipe_field_is_asked_on_exactly_one_step() -> None:
    recipe = Recipe(objective="chat", model={"base": "x"}, data={"source": "y"})  # type: ignore[arg-type]
    for path in flatten(recipe.model_dump()):
        assert step_of(path) in STEPS[:-1], path
    assert step_of("") == "review"
    assert step_of("data.mapping.prompt") == "data"
    assert step_of("model.chat_template") == "settings"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(you=st.dictionaries(st.text(min_size=1), JSON_VALUES, max_size=4), step=st.sampled_from(STEPS))
def test_a_draft_reads_back_as_it_was_written(you: dict[str, object], step: str) -> None:
    draft = Draft(you, "preset", {"training.seed": 3}, step, frozenset({step}), "a1", 12.5)  # type: ignore[arg-type]
    assert draft_from_json(json.loads(json.dumps(draft_to_json(draft)))) == draft


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"version": 2},
        {**draft_to_json(Draft(draft_id="a")), "step": "nowhere"},
        {**draft_to_json(Draft(draft_id="a")), "you": []},
        {**draft_to_json(Draft(draft_id="a")), "draft_id": "../../outside"},
        {**draft_to_json(Draft(draft_id="a")), "visited": ["nowhere"]},
    ],
)
def test_a_document_that_is_no_draft_is_refused(document: object) -> None:
    with pytest.raises(ProblemError, match="damaged"):
        draft_from_json(document)


def test_the_newest_readable_draft_is_found_and_damage_is_counted(tmp_path: Path) -> None:
    older = save_draft(new_draft(you={"objective": "chat"}), tmp_path)
    newer = save_draft(new_draft(you={"objective": "domain-adaptation"}), tmp_path)
    now = time.time()
    os.utime(older, (now - 20, now - 20))
    os.utime(newer, (now - 10, now - 10))
    (tmp_path / "wizard-torn.json").write_text('{"version": 1, "you": {"obj')
    found = newest_draft(tmp_path)
    assert found.draft is not None
    assert found.draft.value("objective") == "domain-adaptation"
    assert found.num_damaged == 1
    assert found.draft.saved_at == pytest.approx(now, abs=60)


def test_a_folder_without_drafts_offers_none(tmp_path: Path) -> None:
    assert newest_draft(tmp_path / "missing").draft is None
    save_draft(new_draft(), tmp_path)
    assert newest_draft(tmp_path).draft is None, "a draft without answers is nothing to continue"


def test_saving_twice_keeps_one_file_with_private_rights(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "drafts"
    draft = new_draft(you={"objective": "chat"})
    first = save_draft(draft, folder)
    assert save_draft(draft.with_value("objective", "domain-adaptation"), folder) == first
    assert [path.name for path in folder.iterdir()] == [first.name]
    assert first.stat().st_mode & 0o077 == 0
    forget_draft(draft, folder)
    assert list(folder.iterdir()) == []


def test_a_failed_save_leaves_the_old_draft_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = new_draft(you={"objective": "chat"})
    path = save_draft(draft, tmp_path)
    before = path.read_bytes()

    def refuse(*_args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        save_draft(draft.with_value("objective", "domain-adaptation"), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_old_drafts_are_forgotten(tmp_path: Path) -> None:
    for number in range(KEPT_DRAFTS + 3):
        path = save_draft(Draft({"objective": "chat"}, draft_id=f"d{number}"), tmp_path)
        os.utime(path, (1000 + number, 1000 + number))
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == KEPT_DRAFTS
    assert f"wizard-d{KEPT_DRAFTS + 2}.json" in names


def test_paths_that_are_no_utf8_survive_the_file(tmp_path: Path) -> None:
    for odd in (os.fsdecode(b"/data/\xff\xfe.jsonl"), "\ud800", "a\u2028b"):
        save_draft(new_draft(you={"data.source": odd}), tmp_path)
        found = newest_draft(tmp_path).draft
        assert found is not None
        assert found.value("data.source") == odd


def test_the_first_step_that_still_asks_is_the_one_without_an_answer() -> None:
    told = {"objective": "chat", "model": {"base": "run:x"}, "data": {"source": "rows.jsonl"}}
    assert new_draft().first_open == "objective"
    assert new_draft(you={**told, "model": {}}).first_open == "model"
    assert new_draft(you={**told, "data": {}}).first_open == "data"
    assert new_draft(you=told).first_open == "review"
    assert new_draft(preset="p", preset_tree=told).first_open == "review"
