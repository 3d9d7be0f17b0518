"""Recipes in and out: findings with the nearest key, `--set`, round trip and hash."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.recipe.fields import fields_by_path, recipe_fields
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.read import (
    check_recipe,
    check_values,
    dump_recipe,
    load_yaml,
    parse_value,
    read_recipe,
    read_recipe_file,
    recipe_hash,
    set_value,
)
from engine.recipe.sources import lay, unflatten
from engine.recipe.suggest import OTHER_NAMES

SMALLEST = "objective: chat\nmodel: {base: some/model}\ndata: {source: rows.jsonl}\n"
SMALLEST_TREE = {"objective": "chat", "model": {"base": "some/model"}, "data": {"source": "rows.jsonl"}}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(folder: Path, text: str) -> tuple[Problem, ...]:
    with pytest.raises(ProblemError) as caught:
        read_recipe(write(folder, text))
    return caught.value.problems


def only_problem(folder: Path, text: str) -> Problem:
    (problem,) = problems_of(folder, text)
    return problem


def test_the_smallest_recipe(tmp_path):
    recipe = check_recipe(read_recipe(write(tmp_path, SMALLEST)), name="recipe.yaml")
    assert recipe.model.base == "some/model"
    assert recipe.training.epochs == 3.0
    assert recipe.method.rank is None


@pytest.mark.parametrize(
    ("lines", "place", "nearest"),
    [
        ("training:\n  epocs: 3\n", "5:3", "training.epochs"),
        ("training:\n  Learning-Rate: 1e-4\n", "5:3", "training.learning_rate"),
        ("trainng:\n  epochs: 3\n", "4:1", "training"),
        ("training:\n  lr: 1e-4\n", "5:3", "training.learning_rate"),
        ("training:\n  rank: 8\n", "5:3", "method.rank"),
        ("rank: 8\n", "4:1", "method.rank"),
        ("lora_alpha: 8\n", "4:1", "method.alpha"),
        ("method:\n  training: {epochs: 1}\n", "5:3", "training is a section of its own"),
        ("evaluation:\n  alpah: 8\n", "5:3", "method.alpha"),
        ("delivery:\n  zzz: 1\n", "5:3", "Valid here: merge, formats, output"),
    ],
)
def test_unknown_keys_name_place_and_nearest_key(tmp_path, lines, place, nearest):
    problem = only_problem(tmp_path, SMALLEST + lines)
    assert problem.code == "recipe.key_unknown"
    assert f"recipe.yaml:{place}: " in problem.message
    assert nearest in problem.fix


def test_all_findings_come_at_once_in_the_order_of_the_file(tmp_path):
    problems = problems_of(tmp_path, "training:\n  epochs: x\n  lrr: 1\nobjective: chat\nmethod: {rank: 0}\n")
    assert [problem.path for problem in problems] == ["training.epochs", "training.lrr", "method.rank"]


@pytest.mark.parametrize(
    ("path", "written", "expected", "fix"),
    [
        ("training.epochs", "0", "a number above 0 and at most 1000", "default"),
        ("training.epochs", "three", "a number above 0 and at most 1000", "default"),
        ("training.epochs", "'3'", "a number above 0", "without quotes"),
        ("training.epochs", ".nan", "a number above 0", "default"),
        ("training.epochs", "1e999", "a number above 0", "default"),
        ("training.epochs", "true", "a number above 0", "default"),
        ("training.epochs", "", "a number above 0", "Set a value"),
        ("training.effective_batch", "1.5", "a whole number from 1 to 65536", "default"),
        ("training.effective_batch", "false", "a whole number from 1 to 65536", "default"),
        ("training.max_steps", "-1", "a whole number of at least 1, or null", "default"),
        ("training.learning_rate", "5", "a number above 0 and below 1", "default"),
        ("training.schedule", "cosin", "one of cosine, linear, wsd, constant", "Did you mean cosine?"),
        ("training.packing", "yes", "true or false", "default"),
        ("training.seed", "[1]", "a whole number", "default"),
        ("method.name", "QLoRA", "one of full, lora, qlora", "Did you mean qlora?"),
        ("method.dropout", "1.0", "a number of at least 0 and below 1", "default"),
        ("data.mapping", "question", "a section of key: value texts", "default"),
        ("name", "true", "text of at most 80 characters", "quotes"),
        ("name", "x" * 81, "text of at most 80 characters", "default"),
        ("model.base", "''", "text", "Correct the value"),
    ],
)
def test_wrong_values_say_what_is_allowed(tmp_path, path, written, expected, fix):
    section, _, key = path.rpartition(".")
    lines = f"{section}:\n  {key}: {written}\n" if section else f"{key}: {written}\n"
    problem = only_problem(tmp_path, lines)
    assert problem.code == "recipe.value"
    assert problem.path == path
    assert expected in problem.message
    assert fix in problem.fix


def test_an_item_of_a_list_is_named_with_its_own_place(tmp_path):
    problem = only_problem(tmp_path, "evaluation:\n  metrics: [perplexity, meteor]\n")
    assert 'recipe.yaml:2:25: item 2 of evaluation.metrics is the text "meteor"' in problem.message


def test_a_value_where_a_section_belongs_says_how_to_write_it(tmp_path):
    problem = only_problem(tmp_path, "method: lora\n")
    assert problem.code == "recipe.section"
    assert problem.fix == "Write method: {name: lora}."


def test_missing_values_are_asked_for_by_the_whole_check_only():
    assert check_values({"objective": "chat"}, name="r") == []
    with pytest.raises(ProblemError) as caught:
        check_recipe({"objective": "chat"}, name="r.yaml")
    assert [problem.path for problem in caught.value.problems] == ["model.base", "data.source"]
    assert all(problem.code == "recipe.value_missing" for problem in caught.value.problems)


def test_numbers_become_text_as_written_where_text_is_wanted(tmp_path):
    text = "name: 1.10\nmodel: {base: 010, revision: 12e4567}\ndata: {source: [1.0, 0x1F], mapping: {prompt: 2.50}}\n"
    tree = read_recipe(write(tmp_path, text))
    assert tree == {
        "name": "1.10",
        "model": {"base": "010", "revision": "12e4567"},
        "data": {"source": ["1.0", "0x1F"], "mapping": {"prompt": "2.50"}},
    }


def test_a_number_that_lost_its_spelling_is_no_text():
    (problem,) = check_values({"name": 1.1}, name="r")
    assert "quotes" in problem.fix


def test_whole_numbers_in_another_spelling_are_taken(tmp_path):
    tree = read_recipe(write(tmp_path, "training: {max_steps: 1e3, effective_batch: 16.0}\n"))
    assert tree["training"] == {"max_steps": 1000, "effective_batch": 16}
    assert all(type(value) is int for value in tree["training"].values())


def test_a_share_stays_a_number_beside_a_file_name(tmp_path):
    assert read_recipe(write(tmp_path, "data: {held_out: 0.10}"))["data"]["held_out"] == 0.1
    assert read_recipe(write(tmp_path, "data: {held_out: other.jsonl}"))["data"]["held_out"] == "other.jsonl"


def test_an_empty_section_says_nothing_and_takes_nothing_from_a_preset(tmp_path):
    you = read_recipe(write(tmp_path, SMALLEST + "training:\n"))
    laid = lay(you, preset={"training": {"epochs": 1}}, preset_name="p")
    assert check_recipe(laid.tree, name="r").training.epochs == 1.0


def test_the_header_of_a_preset_file_is_no_part_of_the_recipe(tmp_path):
    assert read_recipe(write(tmp_path, "preset: {title: x}\n" + SMALLEST)) == SMALLEST_TREE


def test_json_keeps_what_was_read(tmp_path):
    tree = read_recipe(write(tmp_path, SMALLEST + "training: {learning_rate: 1e-4, epochs: 010}\n"))
    assert json.loads(json.dumps(tree)) == tree
    assert tree["training"] == {"learning_rate": 0.0001, "epochs": 10}


def test_lines_are_known_after_reading(tmp_path):
    file = read_recipe_file(write(tmp_path, "objective: chat\nmodel:\n  base: x\n"))
    assert file.lines["model.base"] == (3, 3)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "recipe.file_missing"),
        (lambda path: path.mkdir(), "recipe.is_folder"),
        (lambda path: path.write_bytes(b"a: 1\nb: \xff"), "recipe.not_utf8"),
        (lambda path: path.write_bytes(b"#" * (10 * 1024 * 1024)), "recipe.too_large"),
    ],
)
def test_files_that_are_no_text(tmp_path, make, code):
    path = tmp_path / "recipe.yaml"
    make(path)
    with pytest.raises(ProblemError) as caught:
        read_recipe(path)
    (problem,) = caught.value.problems
    assert problem.code == code
    assert "recipe.yaml" in problem.message
    assert problem.fix


def test_bytes_that_are_not_utf8_have_a_place(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"a: 1\nbcd: \xff")
    with pytest.raises(ProblemError, match=r"recipe\.yaml:2:6: not UTF-8"):
        read_recipe(path)


def test_access_tokens_are_not_repeated_in_messages(tmp_path):
    token = "hf_" + "aB3" * 12
    problem = only_problem(tmp_path, f"training: {{epochs: {token}}}\n")
    assert token not in problem.sentence()


# --set


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("training.epochs=2", "training.epochs", 2),
        ("training.learning_rate=1e-4", "training.learning_rate", 0.0001),
        ("training.max_steps=null", "training.max_steps", None),
        ("training.max_steps=", "training.max_steps", None),
        ("training.packing=true", "training.packing", True),
        ("training.seed=0x10", "training.seed", 16),
        ("name=1.10", "name", "1.10"),
        ("name=no", "name", "no"),
        ("name='null'", "name", "null"),
        ("data.system_prompt=Answer: yes, [or] no # please", "data.system_prompt", "Answer: yes, [or] no # please"),
        ("data.source=a,b.jsonl", "data.source", "a,b.jsonl"),
        ("data.source=[a.jsonl, 010]", "data.source", ["a.jsonl", "010"]),
        ("data.held_out=0.2", "data.held_out", 0.2),
        ("data.held_out=other=x.jsonl", "data.held_out", "other=x.jsonl"),
        ("data.mapping={prompt: q, completion: 1.10}", "data.mapping", {"prompt": "q", "completion": "1.10"}),
        ("method.targets=all-linear", "method.targets", "all-linear"),
        ("method.targets=q_proj, v_proj", "method.targets", ["q_proj", "v_proj"]),
        ("evaluation.metrics=perplexity,rouge", "evaluation.metrics", ["perplexity", "rouge"]),
        ("evaluation.metrics=[rouge]", "evaluation.metrics", ["rouge"]),
        ("evaluation.sample_prompts=Hi, you", "evaluation.sample_prompts", ["Hi, you"]),
        ("model.revision=12e4567", "model.revision", "12e4567"),
    ],
)
def test_set_one_value(assignment, path, value):
    section, _, key = path.rpartition(".")
    tree = set_value({}, assignment)
    assert tree == ({section: {key: value}} if section else {key: value})


def test_set_leaves_the_tree_alone_and_keeps_the_rest():
    before = {"data": {"source": "x", "mapping": {"prompt": "a"}}, "training": {"epochs": 1}}
    snapshot = json.dumps(before)
    after = set_value(before, "data.mapping.completion=b")
    assert json.dumps(before) == snapshot
    assert after == {
        "data": {"source": "x", "mapping": {"prompt": "a", "completion": "b"}},
        "training": {"epochs": 1},
    }


@pytest.mark.parametrize(
    ("assignment", "code", "hint"),
    [
        ("training.epochs", "recipe.assignment", "--set training.epochs=2"),
        ("=2", "recipe.assignment", "--set"),
        ("training=2", "recipe.path_is_section", "training.epochs"),
        ("training.epoch=2", "recipe.key_unknown", "training.epochs"),
        ("trainin.epochs=2", "recipe.key_unknown", "training.epochs"),
        ("lr=2", "recipe.key_unknown", "training.learning_rate"),
        ("training.epochs.x=2", "recipe.key_unknown", ""),
        ("training.epochs=0", "recipe.value", "default"),
        ("training.epochs=[", "yaml.syntax", ""),
        ("training.epochs=*a", "yaml.alias", ""),
        ("evaluation.metrics=meteor", "recipe.value", ""),
        ("method.name=lara", "recipe.value", "lora"),
    ],
)
def test_set_refuses_in_plain_words(assignment, code, hint):
    with pytest.raises(ProblemError) as caught:
        set_value({}, assignment)
    assert caught.value.problems[0].code == code
    assert hint in caught.value.problems[0].fix


def test_every_default_can_be_set_by_its_own_spelling():
    for field in recipe_fields():
        if field.required or field.default is None or field.kind == "mapping":
            continue
        spelled = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        assert parse_value(field.path, spelled) == field.default, field.path


# Writing


_TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | st.sampled_from(
    ["no", "1e-4", "010", "1.10", "null", "~", "", " x ", "a: b", "- a", "# c", "'", '"', "0o7", "12:30", "*x", "&x"]
    + [
        "!x",
        "a\nb",
        "\n",
        " \n x\n",
        "a\n\n",
        "tab\there",
        "\x85\u2028",
        "\ufeff",
        "\x1b[2J",
        "=",
        "<<",
        "%",
        "[/INST]",
    ]
)


def _value_of(path: str) -> st.SearchStrategy:
    field = fields_by_path()[path]
    finite = {"allow_nan": False, "allow_infinity": False, "width": 64}
    numbers = st.floats(field.minimum, field.maximum, **finite)
    items = {"text": _TEXT, "int": st.integers(1, 1024), "float": st.floats(0.001, 1000.0, **finite)}
    by_kind = {
        "text": _TEXT.filter(lambda text: len(text) >= (field.minimum or 0)).map(lambda text: text[:80]),
        "int": st.integers(int(field.minimum or 0), int(field.maximum or 2**31)).map(
            lambda number: number - (1 if field.exclusive_maximum and number == field.maximum else 0)
        ),
        "float": numbers.filter(
            lambda number: (
                not (field.exclusive_minimum and number == field.minimum)
                and not (field.exclusive_maximum and number == field.maximum)
            )
        ),
        "bool": st.booleans(),
        "choice": st.sampled_from(field.choices or ("x",)),
        "choices": st.lists(st.sampled_from(field.choices or ("x",)), max_size=4),
        "list": st.lists(_TEXT, max_size=4),
        "mapping": st.dictionaries(_TEXT, items[field.items], max_size=4),
    }
    values = st.one_of(*(by_kind[kind] for kind in field.accepts))
    return values | st.none() if field.optional else values


@st.composite
def recipe_trees(draw: st.DrawFn) -> dict:
    return unflatten(
        {
            field.path: draw(_value_of(field.path))
            for field in recipe_fields()
            if field.required or draw(st.integers(0, 3)) == 0
        }
    )


@settings(max_examples=120, deadline=None)
@given(recipe_trees())
def test_what_was_written_reads_back_the_same(tree):
    recipe = check_recipe(tree, name="tree")
    text = dump_recipe(tree)
    again = load_yaml(text, name="again")
    assert again == tree
    assert recipe_hash(check_recipe(again, name="again")) == recipe_hash(recipe)
    assert dump_recipe(again) == text


def test_a_resolved_recipe_reads_back_with_the_same_hash():
    recipe = check_recipe(SMALLEST_TREE, name="r")
    text = dump_recipe(recipe.model_dump(mode="json"))
    assert recipe_hash(check_recipe(load_yaml(text, name="r"), name="r")) == recipe_hash(recipe)


def test_writing_follows_the_schema_and_spells_no_anchor():
    shared = ["a", "a"]
    text = dump_recipe({"data": {"source": shared}, "evaluation": {"sample_prompts": shared}, "objective": "chat"})
    assert text.index("objective") < text.index("data") < text.index("evaluation")
    assert "&" not in text


def test_the_hash_follows_the_values_and_not_their_spelling():
    plain = check_recipe(SMALLEST_TREE, name="r")
    spelled = check_recipe({**SMALLEST_TREE, "training": {"epochs": 3, "seed": 17}}, name="r")
    other = check_recipe({**SMALLEST_TREE, "training": {"epochs": 2}}, name="r")
    assert recipe_hash(plain) == recipe_hash(spelled) != recipe_hash(other)
    assert len(recipe_hash(plain)) == 64


def test_words_of_other_trainers_lead_to_fields_that_exist():
    assert set(OTHER_NAMES.values()) <= set(fields_by_path())
    own = {field.key for field in recipe_fields()}
    assert not own & set(OTHER_NAMES), "a key of ours needs no translation"


class TestSectionsInsideSections:
    """`data.cleaning` and `data.split` are sections of a section; they are checked as deep as the others."""

    def tree(self, **data: object) -> dict:
        return {"objective": "chat", "model": {"base": "m"}, "data": {"source": "rows.jsonl", **data}}

    def problem(self, **data: object):
        (problem,) = check_values(self.tree(**data), name="")
        return problem

    def test_values_are_read(self):
        recipe = check_recipe(self.tree(split={"method": "group", "column": "user"}), name="")
        assert (recipe.data.split.method, recipe.data.split.column) == ("group", "user")

    def test_an_unknown_key_is_refused_with_the_nearest(self):
        problem = self.problem(cleaning={"near_duplicate": "drop"})
        assert (problem.code, problem.path) == ("recipe.key_unknown", "data.cleaning.near_duplicate")
        assert problem.fix == "Did you mean data.cleaning.near_duplicates?"

    def test_a_wrong_choice_names_the_choices(self):
        problem = self.problem(cleaning={"secrets": "maks"})
        assert (problem.code, problem.path) == ("recipe.value", "data.cleaning.secrets")
        assert "report, mask, drop, off" in problem.message
        assert problem.fix == "Did you mean mask?"

    def test_text_in_place_of_the_section(self):
        problem = self.problem(split="random")
        assert (problem.code, problem.path) == ("recipe.section", "data.split")
        assert problem.fix == "Write split: {method: random}."

    def test_a_section_at_the_wrong_place_is_sent_home(self):
        (problem,) = check_values({**self.tree(), "split": {"method": "random"}}, name="")
        assert "inside data" in problem.fix

    def test_set_reaches_it(self):
        tree = set_value(self.tree(), "data.split.test=0.1")
        assert tree["data"]["split"] == {"test": 0.1}

    def test_an_empty_section_is_none(self):
        assert check_recipe(self.tree(cleaning=None), name="").data.cleaning.secrets == "report"
