"""The flat list of fields that forms, prompts and docs are made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.catalog.metrics import METRIC_CHOICES
from engine.recipe.fields import fields_by_path, recipe_fields, section_titles
from engine.recipe.read import check_recipe
from engine.recipe.schema import RECIPE_SECTIONS, Recipe
from engine.recipe.sources import flatten, unflatten

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = {"objective": "chat", "model": {"base": "some/model"}, "data": {"source": "rows.jsonl"}}


def test_fields_are_exactly_the_leaves_of_a_recipe():
    recipe = check_recipe(SMALLEST, name="r")
    assert [field.path for field in recipe_fields()] == list(flatten(recipe.model_dump()))


def test_sections_are_those_of_the_schema():
    assert tuple(section_titles()) == RECIPE_SECTIONS
    assert {field.section for field in recipe_fields()} == {"", *RECIPE_SECTIONS}


def test_every_field_explains_itself():
    for field in recipe_fields():
        assert field.title, field.path
        assert field.description.endswith("."), field.path
        assert len(field.title) <= 30, field.path
        assert len(field.description) <= 120, field.path
        assert field.why.endswith(".") or field.required, field.path


def test_defaults_are_those_of_the_schema():
    defaults = flatten(check_recipe(SMALLEST, name="r").model_dump())
    for field in recipe_fields():
        if not field.required:
            assert field.default == defaults[field.path], field.path


def test_only_three_values_must_be_set():
    assert [field.path for field in recipe_fields() if field.required] == ["objective", "model.base", "data.source"]


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("training.epochs", "float", "a number above 0 and at most 1000"),
        ("training.max_steps", "int", "a whole number of at least 1, or null"),
        ("training.packing", "bool", "true or false, or null"),
        ("training.schedule", "choice", "one of cosine, linear, wsd, constant"),
        ("method.targets", "choice", "one of all-linear, attention, mlp or a list of texts, or null"),
        ("evaluation.metrics", "choices", f"a list of {', '.join(METRIC_CHOICES)}, or null"),
        ("evaluation.sample_prompts", "list", "a list of texts, or null"),
        ("data.mapping", "mapping", "a section of key: value texts"),
        ("method.rank_pattern", "mapping", "a section of name: whole number"),
        ("data.held_out", "text", "text or a number, or null"),
        ("name", "text", "text of at most 80 characters, or null"),
    ],
)
def test_kinds_and_what_is_expected_in_plain_words(path, kind, expected):
    field = fields_by_path()[path]
    assert field.kind == kind
    assert field.expected() == expected


def test_bounds_are_those_that_the_schema_enforces():
    for field in recipe_fields():
        if field.kind not in ("int", "float") or field.minimum is None:
            continue
        smallest = flatten(SMALLEST)
        errors = _errors(unflatten(smallest | {field.path: field.minimum}))
        assert bool(errors) is field.exclusive_minimum, field.path
        assert _errors(unflatten(smallest | {field.path: field.minimum - 1})), field.path


def _errors(tree):
    try:
        Recipe.model_validate(tree)
    except ValueError as error:
        return str(error)
    return ""


def test_the_docs_page_says_what_the_schema_says():
    command = [sys.executable, str(ROOT / "scripts" / "write_recipe_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
