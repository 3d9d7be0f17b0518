"""Paths that people type or recipes hold, also those that can be none: an answer or a problem, never a traceback."""

from pathlib import Path
from typing import Any

import pytest

from engine.paths import typed_path
from engine.planning.model_profile import hub_cache, is_hub_id, read_model_profile
from engine.recipe.places import absolute_places
from engine.recipe.problems import ProblemError
from engine.runs.home import home_folders
from tests.unit.made_plans import codes, plan
from tui.preparation import read_reference
from tui.widgets.path_input import complete_path, looks_like_path
from tui.wizard.data import typed_source
from tui.wizard.model import typed_base

NONE = ("~nobody-has-this-name/x", "x" * 5000, "x/" * 3000, "/a" + "b" * 300, "a\0b/c", "\ud800/x")


def test_a_home_folder_is_replaced_and_an_unknown_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    assert typed_path("~/rows.jsonl") == Path("/home/x/rows.jsonl")
    assert typed_path("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")
    assert home_folders({"FTWIZARD_HOME": "~nobody-has-this-name/x"}).runs.is_absolute()
    assert hub_cache({"HF_HOME": "~nobody-has-this-name/x"}).name == "hub"


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_what_is_typed_on_the_way_to_a_path_is_no_error(text: str) -> None:
    assert complete_path(text) is None
    assert isinstance(looks_like_path(text), bool)
    assert typed_source(text) == text
    assert typed_source(f"{text}, {text}") == [text, text]
    assert typed_base(text) in (text, text.rstrip("/"))


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_recipes_with_such_paths_have_problems(text: str) -> None:
    tree: dict[str, Any] = {"model": {"base": text}, "data": {"source": text, "held_out": text}}
    assert absolute_places(tree, (Path("/nowhere"),)) == tree
    assert not is_hub_id(text)
    with pytest.raises(ProblemError):
        read_model_profile(text)
    with pytest.raises(ProblemError):
        read_reference(text)


@pytest.mark.parametrize("text", NONE, ids=range(len(NONE)))
def test_an_output_folder_that_can_be_none_is_refused_before_the_run(text: str) -> None:
    found = codes(plan({"delivery": {"output": text}}), "error")
    assert found == ([] if text.startswith("~") else ["delivery.output_impossible"])
