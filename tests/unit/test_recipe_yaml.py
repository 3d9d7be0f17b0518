"""Strict YAML: what scalars mean, what is refused, and where the finding points."""

import copy
import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.recipe.problems import ProblemError
from engine.recipe.read import load_yaml
from engine.recipe.strict_yaml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, WrittenFloat, WrittenInt, parse_document


def refused(text: str) -> tuple[str, str, str]:
    """Return code, message and fix of the one finding."""
    with pytest.raises(ProblemError) as caught:
        load_yaml(text, name="r.yaml")
    (problem,) = caught.value.problems
    return problem.code, problem.message, problem.fix


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 0.0001),
        ("2.5E+3", 2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_core_scalars_of_yaml_1_2(written, meant):
    value = load_yaml(f"key: {written}", name="r.yaml")["key"]
    assert value == meant
    assert isinstance(value, type(meant))


@pytest.mark.parametrize(
    "written",
    ["no", "on", "off", "yes", "y", "12:30", "12:30:45", "1_000", "0b1", "2001-01-01", "1e", "e4", "tRUE", "=", "NO"],
)
def test_what_yaml_1_1_took_for_something_else_is_text(written):
    assert load_yaml(f"key: {written}", name="r.yaml") == {"key": written}


@pytest.mark.parametrize("written", ["'1e-4'", '"true"', "'null'", '"010"'])
def test_quoted_scalars_are_text(written):
    assert load_yaml(f"key: {written}", name="r.yaml") == {"key": written[1:-1]}


def test_not_a_number_is_read_as_one():
    assert math.isnan(load_yaml("key: .nan", name="r.yaml")["key"])


@pytest.mark.parametrize(("written", "kind"), [("1.10", WrittenFloat), ("010", WrittenInt), ("12e4567", WrittenFloat)])
def test_numbers_remember_how_they_were_written(written, kind):
    number = load_yaml(f"key: {written}", name="r.yaml")["key"]
    for same in (number, copy.deepcopy(number), pickle.loads(pickle.dumps(number))):
        assert isinstance(same, kind)
        assert same.text == written
        assert same == number


def test_empty_text_and_comments_say_nothing():
    assert (
        load_yaml("", name="r.yaml") == load_yaml("# only this\n", name="r.yaml") == load_yaml("---\n", name="r") == {}
    )


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert load_yaml("\ufeffkey: 1", name="r.yaml") == {"key": 1}


def test_positions_of_keys_and_items():
    document = parse_document("data:\n  source: [a, b]\nname: x\n", name="r.yaml")
    assert document.positions == {
        "data": (1, 1),
        "data.source": (2, 3),
        "data.source.0": (2, 12),
        "data.source.1": (2, 15),
        "name": (3, 1),
    }


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a: !!python/object/apply:os.system [id]", "yaml.tag", "1:4"),
        ("a: !include x", "yaml.tag", "1:4"),
        ("a: 1\nb: &anchor 2", "yaml.anchor", "2:4"),
        ("a: *anchor", "yaml.alias", "1:4"),
        ("a: 1\nb: 2\na: 3", "yaml.duplicate_key", "3:1"),
        ("a: {b: 1, b: 2}", "yaml.duplicate_key", "1:11"),
        ("1: a\n1: b", "yaml.duplicate_key", "2:1"),
        ("a: 1\n---\nb: 2", "yaml.second_document", "2:1"),
        ("a:\n\tb: 1", "yaml.tab", "2:1"),
        ("a:\n  b: 1\n  \tc: 2", "yaml.tab", "3:3"),
        ("a: [1,\n\t2]", "yaml.tab", "2:1"),
        ("a: 'open", "yaml.syntax", "1:9"),
        ("a: b: c", "yaml.syntax", "1:5"),
        ("a:\n  b: 1\n c: 2", "yaml.syntax", "3:2"),
        ("a: @x", "yaml.syntax", "1:4"),
        ("[a, b]: 1", "yaml.key", "1:1"),
        ("? {a: 1}\n: 2", "yaml.key", "1:3"),
        ("a: x\x00y", "yaml.character", "1:5"),
        ("a: \x1b[2J", "yaml.character", "1:4"),
        ('a: "\\ud800"', "yaml.escape", "1:4"),
        ('a: "\\U99999999"', "yaml.escape", "1:7"),
        ("a: " + "9" * 5000, "yaml.number", "1:4"),
        ("- a", "yaml.not_a_section", "1:1"),
        ("just text", "yaml.not_a_section", "1:1"),
    ],
)
def test_refused_with_file_line_and_column(text, code, place):
    found, message, fix = refused(text)
    assert found == code
    assert message.startswith(f"r.yaml:{place}: ")
    assert fix.endswith(".")


def test_an_alias_bomb_is_refused_at_its_first_anchor():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)]
    assert refused("\n".join(lines))[0] == "yaml.anchor"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_deep_nesting_ends_at_the_limit_and_not_in_recursion(opening):
    code, message, _ = refused("a:\n  " + opening * 3000)
    assert code == "yaml.too_deep"
    assert str(MAX_DEPTH) in message


def test_depth_limit_is_exact():
    fits = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_document(fits, name="r.yaml").value is not None
    with pytest.raises(ProblemError):
        parse_document(f"[{fits}]", name="r.yaml")


def test_the_number_of_values_is_limited():
    assert len(load_yaml("a: [" + "1," * (MAX_VALUES - 2) + "]", name="r.yaml")["a"]) == MAX_VALUES - 2
    assert refused("a: [" + "1," * (MAX_VALUES - 1) + "]")[0] == "yaml.too_many"
    assert refused("- [" + "[" * 10 + "]" * 10 + "]\n" + "- []\n" * MAX_VALUES)[0] == "yaml.too_many"


_YAML_LIKE = st.text(st.sampled_from("abc:-?[]{},#&*!|>'\"%@` \n\t\r.019eE+~_=<\\xuU/\x85\u2028\ufeff"), max_size=40)


@pytest.mark.parametrize("number", ["9" * 5000, "0x" + "f" * 5000, "0o" + "7" * 5000, "-1." + "0" * 500])
def test_a_number_too_long_to_be_shown_is_refused(number):
    with pytest.raises(ProblemError, match="f:1:4: a number with [0-9]+ characters is too long"):
        load_yaml(f"a: {number}", name="f")


@settings(max_examples=300, deadline=None)
@given(_YAML_LIKE)
def test_any_text_is_read_or_refused_in_plain_words(text):
    try:
        tree = load_yaml(text, name="r.yaml")
    except ProblemError as error:
        for problem in error.problems:
            assert problem.message.startswith("r.yaml:")
            assert problem.message.isprintable()
    else:
        assert isinstance(tree, dict)


def test_size_limit_counts_bytes():
    fits = "a: " + "ä" * ((MAX_BYTES - 3) // 2)
    assert load_yaml(fits, name="r.yaml")["a"].startswith("ä")
    code, message, _ = refused(fits + "ä")
    assert code == "yaml.too_large"
    assert str(MAX_BYTES) in message


def test_nothing_is_filled_in(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    text = "a: ${oc.env:HF_TOKEN}\nb: $HF_TOKEN\nc: ~root/x\nd: ${HF_TOKEN}\n"
    assert load_yaml(text, name="r.yaml") == {
        "a": "${oc.env:HF_TOKEN}",
        "b": "$HF_TOKEN",
        "c": "~root/x",
        "d": "${HF_TOKEN}",
    }


def test_names_of_files_cannot_act_on_the_terminal():
    with pytest.raises(ProblemError) as caught:
        load_yaml("a: [", name="x\x1b[2J\n.yaml")
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
