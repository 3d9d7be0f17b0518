"""Metrics of the form of answers: JSON, schema, pattern and a person's own function."""

import json
import re

import jiwer
import pytest

from engine.evaluation.checked_answers import WrittenAnswer, check_answers
from engine.evaluation.scores import score_answers
from engine.json_schema import fits, parse, read_schema
from engine.planning.answer_checks import beside_findings
from engine.recipe.problems import ProblemError
from engine.recipe.read import check_recipe
from engine.recipe.schema import EvaluationSection

TEXTS = ['{"a": 1}', "[1, 2]", "no", '{"a": "x"}', '{"a": 1} and more', "NaN", "7", ""]
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


def answers(texts=TEXTS):
    return [WrittenAnswer(f"rows.jsonl:{at}", f"q{at}", text, "right") for at, text in enumerate(texts, 1)]


def section(**values):
    return EvaluationSection.model_validate(values)


def own(tmp_path, code, **values):
    (tmp_path / "mine.py").write_text(code)
    reference = f"{tmp_path}/mine.py{values.pop('name', '')}"
    return section(metric_file=reference, trust_metric_code=values.pop("trust", True))


def test_json_is_counted_as_the_parser_of_the_standard_library_reads_it():
    def loads(text):
        try:
            json.loads(text)
        except ValueError:
            return False
        return text != "NaN"  # Python reads it, the standard does not.

    found = check_answers(section(), answers(), ["json_valid"])
    assert found.metrics == {"json_valid": pytest.approx(sum(map(loads, TEXTS)) / len(TEXTS))}
    assert [part[0] for part in found.rows[0].parts] == [float(loads(text)) for text in TEXTS]
    with pytest.raises(ValueError, match="deeply"):
        parse("[" * 100_000)


def test_only_answers_that_fit_the_schema_count_and_each_row_adds_its_part(tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    found = check_answers(section(json_schema=f"{tmp_path}/s.json"), answers(), ["json_schema", "json_valid"])
    assert found.metrics["json_schema"] == pytest.approx(1 / 8)
    group = next(group for group in found.rows if "json_schema" in group.metrics)
    assert group.parts == [[1.0, 1.0]] + [[0.0, 1.0]] * 7
    assert not found.failures


# What `jsonschema` 4 says of these: 16,000 random schemas and values were compared with it, none differed.
CASES = [
    ({"type": "integer"}, [1, 1.0, 0], [1.5, True, "1", None]),
    ({"enum": [1, "a", None]}, [1.0, "a", None], [True, "b", False]),
    ({"const": {"a": [1]}}, [{"a": [1.0]}], [{"a": [True]}, {"a": [1], "b": 1}]),
    ({"pattern": "^a"}, ["ab", 5], ["ba"]),
    ({"minLength": 2, "maxLength": 3}, ["ab", "éàü", 1], ["a", "abcd"]),
    ({"exclusiveMinimum": 0, "maximum": 2, "multipleOf": 0.1}, [0.3, 2], [0, 2.1, 0.25]),
    ({"items": {"type": "string"}, "prefixItems": [{"type": "integer"}]}, [[1, "a"], [], {}], [["a"], [1, 2]]),
    ({"uniqueItems": True, "minItems": 1}, [[1, True], [1, 2]], [[1, 1.0], []]),
    ({"contains": {"const": 1}, "maxContains": 1}, [[1, 2]], [[1, 1], [2]]),
    ({"additionalProperties": False, "patternProperties": {"^x": {}}}, [{"x1": 1}, {}], [{"y": 1}]),
    ({"dependentRequired": {"a": ["b"]}, "propertyNames": {"maxLength": 1}}, [{"b": 1}], [{"a": 1}, {"bb": 1}]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, 2.5], [3, 1.5]),
    ({"anyOf": [{"type": "null"}, {"type": "string"}], "not": {"const": "x"}}, [None, "y"], [1, "x"]),
    ({"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "null"}}, ["a", None], ["", 1]),
    ({"$defs": {"n": {"type": "null"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}, [{"a": None}, 1], [{"a": 1}]),
    ({"properties": {"next": {"$ref": "#"}}, "required": ["v"]}, [{"v": 1, "next": {"v": 2}}], [{"v": 1, "next": {}}]),
    (False, [], [1]),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES, ids=lambda each: json.dumps(each)[:40])
def test_the_schema_takes_what_the_standard_takes(schema, valid, invalid, tmp_path):
    (tmp_path / "s.json").write_text(json.dumps(schema))
    read = read_schema(f"{tmp_path}/s.json")
    assert [fits(read, value) for value in valid] == [True] * len(valid)
    assert [fits(read, value) for value in invalid] == [False] * len(invalid)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "no JSON"),
        ("3", "neither an object"),
        ('{"type": "text"}', "type is none of"),
        ('{"items": [{}]}', "neither an object"),
        ('{"properties": {"a": {"unevaluatedProperties": false}}}', "unevaluatedProperties at #/properties/a"),
        ('{"$ref": "http://example.org/s"}', "leads nowhere"),
        ('{"$ref": "#/nowhere"}', "leads nowhere"),
        ('{"pattern": "("}', "pattern cannot be read"),
        ('{"minimum": "1"}', "minimum is no number"),
    ],
)
def test_a_schema_that_would_not_be_looked_at_as_written_is_refused(schema, words, tmp_path):
    (tmp_path / "s.json").write_text(schema)
    with pytest.raises(ProblemError, match=words):
        read_schema(f"{tmp_path}/s.json")
    with pytest.raises(ProblemError, match="cannot be read"):
        read_schema(f"{tmp_path}/gone.json")


def test_a_pattern_is_found_or_not_and_one_that_takes_too_long_is_told():
    found = check_answers(section(pattern="^{.*}$"), answers(), ["regex"])
    assert found.metrics == {"regex": pytest.approx(2 / 8)}
    slow = check_answers(section(pattern="^(a|aa)+$"), answers(["a" * 80 + "b"]), ["regex", "json_valid"])
    assert slow.metrics == {"json_valid": 0.0}
    (sentence,) = slow.failures
    assert "took more than 0.5 s on the answer to rows.jsonl:1" in sentence


def test_an_own_metric_is_the_mean_of_what_the_function_gives(tmp_path):
    result = "len(answer) + 10 * (prompt == 'q2') + (expected == 'right')"
    code = f"def metric(prompt, answer, expected):\n    return {result}\n"
    texts = ["a", "bcd"]
    found = check_answers(own(tmp_path, code), answers(texts), ["metric_file"])
    assert found.metrics == {"own_score": pytest.approx((2 + 14) / 2)}
    assert found.rows[0].parts == [[2.0, 1.0], [14.0, 1.0]]
    lower = own(tmp_path, f'better = "lower"\n{code}'.replace("metric(", "mine("), name=":mine")
    assert check_answers(lower, answers(texts), ["metric_file"]).metrics == {"own_error": pytest.approx(8)}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "def metric(p, a, e):\n    return 1 / 0\n",
            r"mine.py, line 2, failed for the answer to rows.jsonl:1 \(ZeroDiv",
        ),
        ("def metric(p, a, e):\n    return 'x'\n", "returned 'x' for the answer to rows.jsonl:1"),
        ("def metric(p, a, e):\n    return float('nan')\n", "no finite number"),
        ("x = 1\ny = (\n", "line 2, failed while it was loaded"),
        ("def other(p, a, e): ...\n", "has no function metric"),
        ('better = "up"\ndef metric(p, a, e):\n    return 1\n', "says better = 'up'"),
    ],
)
def test_a_failing_metric_file_names_line_and_row_and_leaves_the_others(code, words, tmp_path):
    found = check_answers(own(tmp_path, code), answers(), ["metric_file", "json_valid"])
    assert set(found.metrics) == {"json_valid"}
    (sentence,) = found.failures
    assert re.search(words, sentence), sentence


def test_a_metric_file_runs_only_after_a_yes(tmp_path):
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    found = check_answers(own(tmp_path, code, trust=False), answers(), ["metric_file"])
    assert "trust_metric_code" in found.failures[0]
    assert not (tmp_path / "ran").exists()


def test_error_rates_are_those_of_jiwer_over_all_rows():
    given, expected = ["the cat sat", "on a mat", ""], ["the cat sat down", "on the mat", "now"]
    found = score_answers(given, expected, ["wer", "cer"])
    assert found == {
        "wer": pytest.approx(jiwer.wer(expected, given)),
        "cer": pytest.approx(jiwer.cer(expected, given)),
    }
    assert score_answers(["x"], [" "], ["wer", "cer"]) == {}, "an error rate of nothing expected is no number"


def test_the_plan_names_everything_that_cannot_be_used(tmp_path):
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": "d"}, "tracking": {"trackio": "mine"}}
    tree["evaluation"] = {"json_schema": f"{tmp_path}/gone", "pattern": "(", "metric_file": f"{tmp_path}/gone.py"}
    codes = [finding.code for finding in beside_findings(check_recipe(tree, name="r"))]
    assert codes == ["evaluation.json_schema", "evaluation.pattern", "metric.file_missing", "tracking.library_missing"]
