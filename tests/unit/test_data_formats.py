"""Shapes are detected with evidence, an explicit mapping wins, and each unusable row has a named reason."""

import pytest

from engine.data.conversations import REASONS, canonical_rows
from engine.data.formats import NEEDED, OPTIONAL, ROLES, find_shape
from engine.data.rows import RawRow, Tally
from engine.recipe.problems import ProblemError
from engine.recipe.schema_data import DataSection


def raw(*values: dict) -> list[RawRow]:
    return [RawRow(f"r.jsonl:{number}", value) for number, value in enumerate(values, 1)]


def shape_of(*values: dict, objective: str = "chat", **data):
    return find_shape(raw(*values), DataSection(source="r.jsonl", **data), objective=objective)


def canonical(*values: dict, objective: str = "chat", **data):
    dropped, changed = Tally(), Tally()
    shape = shape_of(*values, objective=objective, **data)
    return canonical_rows(raw(*values), shape, dropped, changed), dropped, changed


def talk(*turns: str, **first) -> dict:
    """Return a messages row: `talk("u:Hi", "a:Hello")`."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": names[t[0]], "content": t[2:]} for t in turns], **first}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (("prompt", "completion"), {"prompt": "prompt", "completion": "completion"}),
        (("question", "answer", "url"), {"prompt": "question", "completion": "answer"}),
        (("Question", "Answer"), {"prompt": "Question", "completion": "Answer"}),
        (("instruction", "response"), {"prompt": "instruction", "completion": "response"}),
        (("instruction", "output"), {"prompt": "instruction", "completion": "output"}),
        (("input", "output"), {"prompt": "input", "completion": "output"}),
        (("request", "command"), {"prompt": "request", "completion": "command"}),
        (("system", "prompt", "response"), {"system": "system", "prompt": "prompt", "completion": "response"}),
    ],
)
def test_pairs_are_found_by_their_usual_names(columns, expected):
    shape = shape_of(dict.fromkeys(columns, "some text"))
    assert shape.format == "prompt_completion"
    assert shape.mapping == expected


def test_alpaca_needs_the_input_column():
    shape = shape_of({"instruction": "Add.", "input": "1 1", "output": "2"})
    assert (shape.format, set(shape.mapping)) == ("alpaca", {"instruction", "input", "output"})


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
def test_lists_of_turns_are_messages(column):
    shape = shape_of({"id": 1, column: talk("u:Hi", "a:Hello")["messages"], "text": "x"})
    assert (shape.format, shape.mapping) == ("messages", {"messages": column})
    assert "ignored: 'id', 'text'" in shape.evidence


def test_text_column_called_messages_is_no_conversation():
    assert shape_of({"messages": "plain", "prompt": "a", "completion": "b"}).format == "prompt_completion"


def test_domain_adaptation_reads_text_where_chat_reads_pairs():
    row = {"text": "Once.", "prompt": "a", "completion": "b"}
    assert shape_of(row, objective="domain-adaptation").format == "text"
    assert shape_of(row).format == "prompt_completion"


class TestMapping:
    def test_wins_over_detection(self):
        shape = shape_of({"prompt": "a", "completion": "b", "x": "c"}, mapping={"prompt": "x", "completion": "prompt"})
        assert shape.mapping == {"prompt": "x", "completion": "prompt"}

    def test_may_be_partial(self):
        shape = shape_of({"dialogue": "a", "answer": "b"}, mapping={"prompt": "dialogue"})
        assert shape.mapping == {"prompt": "dialogue", "completion": "answer"}

    def test_unknown_role_names_the_nearest(self):
        with pytest.raises(ProblemError, match="Did you mean completion"):
            shape_of({"a": "x"}, mapping={"completon": "a"})

    def test_missing_column_lists_those_found(self):
        with pytest.raises(
            ProblemError, match=r"no column 'anser' .*found: 'question', 'answer'.*Did you mean 'answer'"
        ):
            shape_of({"question": "x", "answer": "y"}, mapping={"prompt": "question", "completion": "anser"})

    def test_mixed_shapes_are_refused(self):
        with pytest.raises(ProblemError, match="mixes roles"):
            shape_of({"a": "x", "b": "y"}, mapping={"prompt": "a", "text": "b"})

    def test_chosen_format_names_what_it_needs(self):
        with pytest.raises(ProblemError, match="needs instruction and output; columns found: 'a'"):
            shape_of({"a": "x"}, format="alpaca")

    def test_every_role_belongs_to_a_format(self):
        assert set(ROLES) == {role for table in (NEEDED, OPTIONAL) for roles in table.values() for role in roles}


def test_no_usable_column_lists_the_columns_and_the_way_out():
    with pytest.raises(ProblemError) as caught:
        shape_of({"ID": "1", "section": "a", "text": "b"})
    problem = caught.value.problems[0]
    assert problem.code == "data.no_usable_column"
    assert "'ID', 'section', 'text'" in problem.message
    assert "data.mapping" in problem.fix
    assert "domain-adaptation" in problem.fix


def test_hostile_column_names_cannot_act_on_a_terminal():
    with pytest.raises(ProblemError) as caught:
        shape_of({"\x1b]52;c;x\x07": "a"})
    assert "\x1b" not in str(caught.value)


class TestRows:
    def test_pair_becomes_two_turns_to_the_letter(self):
        rows, dropped, _ = canonical({"prompt": " Hi ", "completion": "Ho\n"})
        assert rows == [
            {
                "id": "r.jsonl:1",
                "messages": [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Ho\n"}],
            }
        ]
        assert not dropped.counts

    def test_alpaca_input_follows_after_a_blank_line_unless_empty(self):
        rows, _, _ = canonical(
            {"instruction": "Add.", "input": "1 1", "output": "2"},
            {"instruction": "Sing.", "input": " ", "output": "La"},
            {"instruction": "Sing.", "input": None, "output": "La"},
        )
        assert [row["messages"][0]["content"] for row in rows] == ["Add.\n\n1 1", "Sing.", "Sing."]

    def test_system_column_opens_the_conversation(self):
        rows, _, _ = canonical({"system": "Be terse.", "prompt": "a", "completion": "b"})
        assert [turn["role"] for turn in rows[0]["messages"]] == ["system", "user", "assistant"]

    def test_numbers_are_the_text_that_the_file_spells(self):
        rows, _, _ = canonical({"question": "2*21", "answer": 42}, {"question": "1/2", "answer": 0.5})
        assert [row["messages"][1]["content"] for row in rows] == ["42", "0.5"]

    def test_sharegpt_names_are_understood(self):
        turns = [{"from": "system", "value": "S"}, {"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]
        rows, _, _ = canonical({"conversations": turns})
        assert [turn["role"] for turn in rows[0]["messages"]] == ["system", "user", "assistant"]

    def test_text_parts_are_joined(self):
        parts = [{"type": "text", "text": "One "}, {"type": "text", "text": "two"}]
        rows, _, _ = canonical(
            {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "ok"}]}
        )
        assert rows[0]["messages"][0]["content"] == "One two"

    def test_question_at_the_end_is_left_out_and_counted(self):
        rows, dropped, changed = canonical(talk("u:Q", "a:A", "u:Thanks"))
        assert [turn["content"] for turn in rows[0]["messages"]] == ["Q", "A"]
        assert (dropped.counts, changed.counts) == ({}, {"trailing_turn": 1})


FILLER = talk("u:Q", "a:A")
DEFECTS = {
    "null messages": ({"messages": None}, "no_messages"),
    "no messages": ({"messages": []}, "no_messages"),
    "text for messages": ({"messages": "Hi"}, "no_messages"),
    "column missing": ({"other": 1}, "no_messages"),
    "null content": (
        {"messages": [{"role": "user", "content": None}, {"role": "assistant", "content": "A"}]},
        "null_value",
    ),
    "object content": (
        {"messages": [{"role": "user", "content": {"a": 1}}, {"role": "assistant", "content": "A"}]},
        "not_text",
    ),
    "image part": ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not_text"),
    "message is text": ({"messages": ["Hi", "Ho"]}, "broken_message"),
    "no role": ({"messages": [{"content": "Hi"}]}, "broken_message"),
    "unknown role": ({"messages": [{"role": "asistant", "content": "Hi"}]}, "unknown_role"),
    "tool turn": ({"messages": [{"role": "tool", "content": "Hi"}]}, "no_answer"),
    "tool call": ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "broken_tool_call"),
    "two questions": (talk("u:Q", "u:Q", "a:A"), "role_order"),
    "answer first": (talk("a:A", "u:Q", "a:A"), "role_order"),
    "system last": (talk("u:Q", "a:A", "s:S"), "role_order"),
    "two systems": (talk("s:S", "s:S", "u:Q", "a:A"), "role_order"),
    "no answer": (talk("u:Q"), "no_answer"),
    "system alone": (talk("s:S"), "no_answer"),
    "empty answer": (talk("u:Q", "a:"), "empty_answer"),
    "blank answer": (talk("u:Q", "a: \n\t"), "empty_answer"),
    "blank answer in the middle": (talk("u:Q", "a: ", "u:Q", "a:A"), "empty_answer"),
    "blank question": (talk("u: ", "a:A"), "empty_prompt"),
}


@pytest.mark.parametrize(("row", "reason"), DEFECTS.values(), ids=DEFECTS.keys())
def test_defective_conversation_is_counted_and_its_neighbour_kept(row, reason):
    rows, dropped, _ = canonical(FILLER, row, FILLER)
    assert len(rows) == 2
    assert dropped.counts == {reason: 1}
    assert dropped.places == {reason: ["r.jsonl:2"]}
    assert reason in REASONS


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a"}, "missing_column"),
        ({"prompt": "a", "completion": None}, "null_value"),
        ({"prompt": "a", "completion": "  "}, "empty_answer"),
        ({"prompt": "", "completion": "b"}, "empty_prompt"),
        ({"prompt": "a", "completion": ["b"]}, "not_text"),
        ({"prompt": "a", "completion": {"b": 1}}, "not_text"),
    ],
)
def test_defective_pair_is_counted(row, reason):
    rows, dropped, _ = canonical({"prompt": "a", "completion": "b"}, row, {"prompt": "a", "completion": "b"})
    assert (len(rows), dropped.counts) == (2, {reason: 1})


def test_unknown_role_names_the_nearest_one():
    _, dropped, _ = canonical(FILLER, {"messages": [{"role": "asistant", "content": "Hi"}]})
    assert "nearest 'assistant'" in dropped.details["unknown_role"]


def test_tally_names_the_first_rows_and_counts_the_others():
    tally = Tally()
    for number in range(8):
        tally.add("duplicate", f"r:{number}")
    assert tally.named("duplicate") == "r:0, r:1, r:2, r:3, r:4 and 3 more"


def test_turns_under_other_keys_are_told_with_the_keys():
    with pytest.raises(ProblemError) as caught:
        shape_of({"dialog": [{"speaker": "user", "text": "Hi"}, {"speaker": "bot", "text": "Hello"}]})
    (problem,) = caught.value.problems
    assert "'dialog' holds lists of objects with 'speaker', 'text'" in problem.message
    assert problem.fix == "Rename the keys of each turn to role and content."
