"""Every path of a recipe means what it meant where the person stood: the worker of a run starts in another folder."""

import re
from pathlib import Path
from typing import Any

import pytest

from engine.recipe.fields import recipe_fields
from engine.recipe.places import PLACES, absolute_places, function_of
from engine.recipe.sources import flatten, unflatten

ABOUT_FILES = {"data.encoding", "data.unwrap", "data.text_unit"}
"""Fields that say how a file is read and name none."""
PATH_WORDS = re.compile(r"\b(files?|folder|path)\b", re.IGNORECASE)


def test_every_field_that_names_a_file_or_a_folder_is_known_as_one() -> None:
    told = {
        field.path
        for field in recipe_fields()
        if {"text", "list"} & set(field.accepts) and PATH_WORDS.search(field.description)
    }
    assert told - ABOUT_FILES - set(PLACES) == set()
    assert set(PLACES) <= {field.path for field in recipe_fields()}


def placed(path: str, value: Any, *folders: Path) -> Any:
    return flatten(absolute_places(unflatten({path: value}), folders))[path]


@pytest.mark.parametrize("path", PLACES)
def test_a_relative_path_is_looked_up_where_the_person_stands_and_beside_the_recipe(path: str, tmp_path: Path) -> None:
    here, beside = tmp_path / "here", tmp_path / "beside"
    for folder in (here, beside):
        (folder / "sub").mkdir(parents=True)
    (here / "sub" / "both").touch()
    (beside / "sub" / "both").touch()
    assert placed(path, "sub/both", here, beside) == str(here / "sub" / "both")
    (beside / "sub" / "one").touch()
    # What is to be written belongs where the person stands, wherever the recipe lies.
    lies = here if PLACES[path] == "new" else beside
    assert placed(path, "sub/one", here, beside) == str(lies / "sub" / "one")
    assert placed(path, str(beside / "sub" / "one"), here) == str(beside / "sub" / "one")


@pytest.mark.parametrize("path", [path for path, kind in PLACES.items() if kind != "new"])
def test_what_is_no_path_stays_as_it_is(path: str, tmp_path: Path) -> None:
    for name in ("builtin:starter", "hub:owner/name", "run:latest", "owner/name"):
        assert placed(path, name, tmp_path) == name


def test_a_file_called_chatml_is_not_the_template_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "chatml").touch()
    assert placed("model.chat_template", "chatml", tmp_path) == "chatml"


def test_a_run_and_a_function_are_named_behind_a_colon(tmp_path: Path) -> None:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "score.py").touch()
    assert placed("preference.judge", "run:runs/r", tmp_path) == f"run:{tmp_path}/runs/r"
    assert placed("reinforcement.reward_file", "score.py:mine", tmp_path) == f"{tmp_path}/score.py:mine"
    assert function_of("score.py") == ("score.py", "")
