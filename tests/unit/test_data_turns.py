"""Conversations with tools, and conversations that are broken: what is read, what is dropped, and where."""

import json

import pytest

from engine.data.conversations import CHANGES, REASONS, canonical_rows, change_findings
from engine.data.formats import find_shape
from engine.data.pipeline import prepare
from engine.data.rows import RawRow, Tally
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import DataSection

FIND = {"name": "find_book", "description": "Finds a book.", "parameters": {"type": "object", "properties": {}}}
OPENAI_TOOLS = [{"type": "function", "function": FIND}]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def says(text: str) -> dict:
    return {"role": "assistant", "content": text}


def calls(*titles: str, **more) -> dict:
    """Return an OpenAI message that calls a tool, with its arguments as the API has them: JSON in a string."""
    made = [
        {
            "id": f"call_{title}",
            "type": "function",
            "function": {"name": "find_book", "arguments": json.dumps({"title": title})},
        }
        for title in titles
    ]
    return {"role": "assistant", "content": None, "tool_calls": made, **more}


def result(text: str, title: str | None = None) -> dict:
    return {"role": "tool", "content": text, **({"tool_call_id": f"call_{title}"} if title else {})}


def read(*values: dict, **data):
    """Return canonical rows with what was dropped and changed."""
    rows = [RawRow(f"r.jsonl:{number}", value) for number, value in enumerate(values, 1)]
    shape = find_shape(rows, DataSection(source="r.jsonl", **data), objective="chat")
    dropped, changed = Tally(), Tally()
    return canonical_rows(rows, shape, dropped, changed), dropped, changed


GOOD = {"messages": [user("Q"), says("A")]}
CALLING = {"messages": [user("Emma?"), calls("Emma"), result("7", "Emma"), says("Shelf 7.")], "tools": OPENAI_TOOLS}
CALL = {"type": "function", "id": "call_Emma", "function": {"name": "find_book", "arguments": {"title": "Emma"}}}


class TestTools:
    def test_openai_call_keeps_its_parts_and_its_arguments_become_an_object(self):
        (row,), dropped, changed = read(CALLING)
        assert row["tools"] == OPENAI_TOOLS
        assert row["messages"] == [
            user("Emma?"),
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "7", "tool_call_id": "call_Emma"},
            says("Shelf 7."),
        ]
        assert (dropped.counts, changed.counts) == ({}, {})

    @pytest.mark.parametrize("tools", [json.dumps([FIND]), [FIND], OPENAI_TOOLS, [json.dumps(FIND)], json.dumps(FIND)])
    def test_definitions_of_any_form_become_one(self, tools):
        (row,), _, _ = read({**CALLING, "tools": tools})
        assert row["tools"] == OPENAI_TOOLS

    @pytest.mark.parametrize("tools", [None, "", "  ", [], "[]"])
    def test_no_definitions_are_no_tools(self, tools):
        (row,), dropped, _ = read({**GOOD, "tools": tools})
        assert "tools" not in row
        assert not dropped.counts

    def test_keys_that_a_columnar_file_filled_with_null_are_left_out(self):
        padded = {**FIND, "parameters": {"type": "object", "properties": {"title": {"type": "string"}, "page": None}}}
        (row,), _, _ = read({**CALLING, "tools": [padded]})
        assert row["tools"][0]["function"]["parameters"]["properties"] == {"title": {"type": "string"}}

    def test_sharegpt_calls_and_observations(self):
        turns = [("human", "Emma?"), ("function_call", json.dumps({"name": "find_book", "arguments": {"title": "E"}}))]
        turns += [("observation", "7"), ("gpt", "Shelf 7.")]
        (row,), _, _ = read({"conversations": [{"from": name, "value": text} for name, text in turns], "tools": "[]"})
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "tool", "assistant"]
        assert row["messages"][1]["tool_calls"][0]["function"] == {"name": "find_book", "arguments": {"title": "E"}}

    def test_sharegpt_text_and_calls_in_a_row_are_one_message(self):
        call = json.dumps([{"name": "find_book", "arguments": {"title": title}} for title in "EP"])
        more = json.dumps({"name": "close", "arguments": {}})
        turns = [("human", "Q"), ("gpt", "I look."), ("function_call", call), ("function_call", more)]
        turns += [("observation", "7"), ("gpt", "Seven.")]
        (row,), _, _ = read({"conversations": [{"from": name, "value": text} for name, text in turns]})
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant", "tool", "assistant"]
        assert row["messages"][1]["content"] == "I look."
        assert [call["function"]["name"] for call in row["messages"][1]["tool_calls"]] == ["find_book"] * 2 + ["close"]

    def test_older_function_calls_are_understood(self):
        spelled = {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": ""}}
        answer = {"role": "function", "name": "now", "content": "noon"}
        (row,), _, _ = read({"messages": [user("Time?"), spelled, answer, says("Noon.")]})
        assert row["messages"][1]["tool_calls"] == [{"type": "function", "function": {"name": "now", "arguments": {}}}]
        assert row["messages"][2] == {"role": "tool", "content": "noon", "name": "now"}

    def test_calls_spelled_in_the_text_may_be_followed_by_a_result(self):
        inline = says('<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')
        (row,), dropped, _ = read({"messages": [user("Time?"), inline, result("noon"), says("Noon.")]})
        assert len(row["messages"]) == 4
        assert not dropped.counts

    def test_several_calls_with_their_results(self):
        turns = [user("Q"), calls("E", "P"), result("7", "E"), result("8", "P"), says("7 and 8.")]
        (row,), dropped, _ = read({"messages": turns})
        assert len(row["messages"]) == 5
        assert not dropped.counts

    def test_result_at_the_end_is_left_out_and_the_call_stays(self):
        (row,), _, changed = read({"messages": [user("Q"), calls("E"), result("7", "E")]})
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
        assert changed.counts == {"trailing_turn": 1}

    def test_developer_message_is_the_system(self):
        (row,), _, _ = read({"messages": [{"role": "developer", "content": "Be terse."}, *GOOD["messages"]]})
        assert row["messages"][0] == {"role": "system", "content": "Be terse."}

    def test_system_column_stands_first_unless_the_conversation_has_its_own(self):
        own = {"role": "system", "content": "Own."}
        rows, _, _ = read({**GOOD, "system": "Column."}, {"messages": [own, *GOOD["messages"]], "system": "Column."})
        assert [row["messages"][0]["content"] for row in rows] == ["Column.", "Own."]


class TestCallsAtTheEnd:
    def ending(self, *rows: dict):
        used, _, changed = read(*rows)
        return change_findings(changed, used)

    def test_are_how_some_data_is_made(self):
        (finding,) = self.ending(*[{"messages": [user(f"Q{n}"), calls("E")]} for n in range(4)])
        assert (finding.code, finding.severity) == ("data.open_call", "note")

    def test_are_a_warning_where_other_calls_have_results(self):
        (finding,) = self.ending(CALLING, CALLING, CALLING, {"messages": [user("Q"), calls("E")]})
        assert (finding.code, finding.severity) == ("data.open_call", "warning")
        assert "1 row ends with a tool call" in finding.message
        assert "r.jsonl:4" in finding.message
        assert finding.fix


def nested(message: dict) -> dict:
    return {"messages": [user("Q"), message]}


def broken_call(function: object) -> dict:
    return {"messages": [user("Q"), {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}]}


DROPPED = {
    # D15 of the catalogue of bad files.
    "wrong column": ({"mesages": GOOD["messages"]}, "no_messages", "None"),
    # D16
    "messages null": ({"messages": None}, "no_messages", "None"),
    "messages empty": ({"messages": []}, "no_messages", "[]"),
    "messages text": ({"messages": "Hi there"}, "no_messages", "Hi there"),
    "messages object": ({"messages": {"a": 1}}, "no_messages", "a"),
    # D17
    "content null": (nested({"role": "assistant", "content": None}), "null_value", "message 2 holds null"),
    "content list": (nested({"role": "assistant", "content": ["a"]}), "not_text", "message 2 holds a list"),
    "content object": (nested({"role": "assistant", "content": {"a": 1}}), "not_text", "message 2 holds an object"),
    "content truth": (nested({"role": "assistant", "content": True}), "not_text", "message 2 holds true or false"),
    "content image": (nested({"role": "assistant", "content": [{"type": "image_url"}]}), "not_text", "message 2"),
    "content absent": (nested({"role": "assistant"}), "broken_message", "message 2 has no content"),
    # D18
    "role typo": (nested({"role": "assitant", "content": "A"}), "unknown_role", "'assitant', nearest 'assistant'"),
    "role unheard of": (nested({"role": "narrator", "content": "A"}), "unknown_role", "roles are system, user"),
    "role absent": (nested({"content": "A"}), "broken_message", "message 2 has no role"),
    # D19
    "user after user": ({"messages": [user("Q"), user("Q"), says("A")]}, "role_order", "message 2 is user"),
    "assistant first": ({"messages": [says("A"), user("Q"), says("A")]}, "role_order", "message 1 is assistant"),
    "assistant after assistant": ({"messages": [user("Q"), says("A"), says("B")]}, "role_order", "message 3"),
    "system in the middle": (
        {"messages": [user("Q"), {"role": "system", "content": "S"}, says("A")]},
        "role_order",
        "message 2 is system",
    ),
    "system last": ({"messages": [*GOOD["messages"], {"role": "system", "content": "S"}]}, "role_order", "message 3"),
    # D20
    "answer empty": (nested(says("")), "empty_answer", "message 2"),
    "answer blank": (nested(says(" \n\t ")), "empty_answer", "message 2"),
    # D21
    "no assistant": ({"messages": [user("Q")]}, "no_answer", ""),
    # D22
    "call without result": ({"messages": [user("Q"), calls("E"), says("A")]}, "call_without_result", "message 3 is"),
    "call, then a question": (
        {"messages": [user("Q"), calls("E"), user("Q"), says("A")]},
        "call_without_result",
        "message 3 is user, a result was expected",
    ),
    "one result of two": (
        {"messages": [user("Q"), calls("E", "P"), result("7", "E"), says("A")]},
        "call_without_result",
        "before message 4",
    ),
    "result without call": ({"messages": [user("Q"), says("A"), result("7"), says("A")]}, "result_without_call", "3"),
    "result of another call": (
        {"messages": [user("Q"), calls("E"), result("7", "P"), says("A")]},
        "result_without_call",
        "message 3 answers an unknown call",
    ),
    "call without name": (broken_call({"arguments": "{}"}), "broken_tool_call", "message 2 has a call without a name"),
    "call with broken arguments": (broken_call({"name": "f", "arguments": "{"}), "broken_tool_call", "not JSON"),
    "call with a list": (broken_call({"name": "f", "arguments": "[1]"}), "broken_tool_call", "a list as arguments"),
    "calls that are no list": (
        nested({"role": "assistant", "content": "", "tool_calls": {"name": "f"}}),
        "broken_tool_call",
        "an object as tool_calls",
    ),
    "definitions that are no JSON": ({**GOOD, "tools": "[{"}, "broken_tools", "not JSON"),
    "definitions without name": ({**GOOD, "tools": [{"description": "x"}]}, "broken_tools", "tool 1 has no name"),
    "definitions that are a number": ({**GOOD, "tools": 7}, "broken_tools", "holds a number"),
}


@pytest.mark.parametrize(("row", "reason", "detail"), DROPPED.values(), ids=DROPPED.keys())
def test_row_that_breaks_its_shape_is_located_and_its_neighbours_are_kept(row, reason, detail, tmp_path):
    twins = [{"messages": [user(f"Question {n}"), says(f"Answer {n}")], "tools": None} for n in range(12)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in [*twins[:9], row, *twins[9:]]))
    recipe = Recipe.model_validate({"objective": "chat", "model": {"base": "m"}, "data": {"source": str(file)}})

    profile = prepare(recipe).profile
    assert profile.dropped == {reason: 1}
    (finding,) = [each for each in profile.findings if each.code == f"data.dropped.{reason}"]
    assert "rows.jsonl:10" in finding.message
    assert detail in finding.message
    assert finding.severity == "warning"
    assert profile.num_train + profile.num_held_out == 12
    assert reason in REASONS

    file.write_text("\n".join(json.dumps(each) for each in twins))
    clean = prepare(recipe).profile
    assert not clean.dropped
    assert not [each for each in clean.findings if each.code not in ("data.few_rows",)]


USED = {
    "number": (nested({"role": "assistant", "content": 42}), "number_content", "42"),
    "thoughts": (nested({**says("A"), "reasoning_content": "Hm."}), "thoughts_left_out", "A"),
    "weight": (nested({**says("A"), "weight": 0}), "weight_ignored", "A"),
}


@pytest.mark.parametrize(("row", "reason", "answer"), USED.values(), ids=USED.keys())
def test_row_that_is_used_otherwise_than_it_stands_is_told(row, reason, answer):
    rows, dropped, changed = read(GOOD, row)
    assert rows[1]["messages"][-1]["content"] == answer
    assert changed.places == {reason: ["r.jsonl:2"]}
    (finding,) = change_findings(changed, rows)
    assert finding.code == f"data.{reason}"
    assert "r.jsonl:2" in finding.message
    assert finding.severity == CHANGES[reason][0]
    assert not dropped.counts


def test_wrong_column_names_the_nearest():
    rows, dropped, _ = read({"prompt": "a", "completion": "b"}, {"prompt": "a", "compeltion": "b"})
    assert dropped.counts == {"missing_column": 1}
    assert dropped.details["missing_column"] == "'completion'; nearest 'compeltion'"
    assert len(rows) == 1


def test_dropped_row_leaves_no_remark():
    _, dropped, changed = read(
        GOOD, {"messages": [user("Q"), {"role": "assistant", "content": 4}, user("Q"), says("")]}
    )
    assert (dropped.counts, changed.counts) == ({"empty_answer": 1}, {})
