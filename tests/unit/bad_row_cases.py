"""Rows D15 to D29 of the catalogue that break their shape, repeat or contradict each other."""

from pathlib import Path
from typing import Any

from tests.unit.bad_files import NUM_ROWS, Case, chats, lines, pair, pairs, put, table, warned, with_row


def turn(role: str, content: object, **more: Any) -> dict[str, Any]:
    """Return one message."""
    return {"role": role, "content": content, **more}


def conversation(*turns: dict[str, Any]) -> dict[str, Any]:
    """Return a row."""
    return {"messages": list(turns)}


def chat_with(number: int, row: object) -> Any:
    """Return what writes conversations of which one is another."""
    return put("c.jsonl", with_row(number, row, chats()))


USER, SAYS = turn("user", "Why?"), turn("assistant", "So.")
CALL = turn(
    "assistant", None, tool_calls=[{"id": "7", "type": "function", "function": {"name": "find", "arguments": "{}"}}]
)


def left_out(defect: str, number: int, row: object, reason: str, says: str) -> Case:
    """Return a case of one row that is left out and named."""
    return warned(defect, chat_with(number, row), rf"^1 row .*{says}.*c\.jsonl:{number}\. Left out", {reason: 1})


def _repeated(times: int, of: int) -> list[dict[str, Any]]:
    return [pair(number % of) for number in range(times)]


def _overlap(count: int) -> Any:
    def data(folder: Path) -> dict[str, Any]:
        held = [pair(number) for number in range(NUM_ROWS - count, NUM_ROWS - count + 200)]
        return {"held_out": put("held.jsonl", lines(held))(folder)}

    return data


ROW_CASES = [
    # D15 wrong column
    left_out("D15 misspelled", 10, {"mesages": [USER, SAYS]}, "no_messages", "no list of messages"),
    warned(
        "D15 another one",
        put("p.jsonl", with_row(10, {"prompt": "Why?", "completon": "So."})),
        r"1 row lacks a column.*p\.jsonl:10\. Left out",
        {"missing_column": 1},
    ),
    warned(
        "D15 other case",
        put("p.jsonl", with_row(33, {"Prompt": "Why?", "Completion": "So."})),
        r"1 row lacks a column.*p\.jsonl:33\. Left out",
        {"missing_column": 1},
    ),
    Case(
        "D15 everywhere",
        put("p.jsonl", lines([{"qq": "Why?", "zz": 4}] * 9)),
        r"No columns of questions and answers.*qq.*zz",
        "data.mapping",
    ),
    # D16 messages that are none
    *(
        left_out(f"D16 {what}", 17, {"messages": value}, "no_messages", "no list of messages")
        for what, value in (("null", None), ("empty", []), ("text", "Hello."), ("object", {"a": 1}))
    ),
    left_out("D16 strings", 2, {"messages": ["Why?", "So."]}, "broken_message", "without role or content"),
    # D17 content that is no text
    *(
        left_out(f"D17 {what}", 23, conversation(USER, turn("assistant", value)), reason, says)
        for what, value, reason, says in (
            ("null", None, "null_value", "null"),
            ("list", ["a"], "not_text", "other than text"),
            ("object", {"a": 1}, "not_text", "other than text"),
            ("truth", True, "not_text", "other than text"),
        )
    ),
    warned(
        "D17 number", chat_with(23, conversation(USER, turn("assistant", 42))), r"1 row holds a number.*c\.jsonl:23"
    ),
    left_out("D17 question null", 60, conversation(turn("user", None), SAYS), "null_value", "null"),
    # D18 role typo
    *(
        left_out(
            f"D18 {role}", 41, conversation(USER, turn(role, "So.")), "unknown_role", f"'{role}'.*nearest '{near}'"
        )
        for role, near in (("assitant", "assistant"), ("asistent", "assistant"))
    ),
    left_out("D18 user", 1, conversation(turn("usr", "Why?"), SAYS), "unknown_role", "'usr'.*nearest 'user'"),
    left_out("D18 nothing near", 5, conversation(USER, turn("narrator", "So.")), "unknown_role", "roles are"),
    # D19 order
    left_out("D19 user twice", 10, conversation(USER, USER, SAYS), "role_order", "out of order.*message 2 is user"),
    left_out("D19 assistant first", 11, conversation(SAYS, USER, SAYS), "role_order", "message 1 is assistant"),
    left_out(
        "D19 system last", 12, conversation(USER, SAYS, turn("system", "Be kind.")), "role_order", "message 3 is system"
    ),
    left_out("D19 assistant twice", 13, conversation(USER, SAYS, SAYS), "role_order", "message 3 is assistant"),
    # D20 empty answers
    *(
        left_out(f"D20 {what}", 30, conversation(USER, turn("assistant", value)), "empty_answer", "empty answer")
        for what, value in (
            ("empty", ""),
            ("blank", " \n\t"),
            ("wide blank", "\u3000\u00a0"),
            ("zero-width", "\u200b\u200b"),
            ("mark", "\ufeff"),
        )
    ),
    warned(
        "D20 in a table",
        put("p.csv", table([*pairs(), {"prompt": "Why?", "completion": "  "}])),
        rf"1 row has an empty answer.*p\.csv:{NUM_ROWS + 2}\. Left out",
        {"empty_answer": 1},
    ),
    left_out(
        "D20 an earlier answer", 30, conversation(USER, turn("assistant", ""), USER, SAYS), "empty_answer", "message 2"
    ),
    # D21 nobody answers
    left_out("D21 question alone", 44, conversation(USER), "no_answer", "no turn of the assistant"),
    left_out(
        "D21 system and question",
        44,
        conversation(turn("system", "Be kind."), USER),
        "no_answer",
        "no turn of the assistant",
    ),
    Case(
        "D21 in every row",
        put("c.jsonl", lines(conversation(turn("user", f"Why {n}?")) for n in range(9))),
        r"few of them hold an answer",
        "data.mapping",
    ),
    # D22 a call without its result
    left_out(
        "D22 answered at once", 50, conversation(USER, CALL, SAYS), "call_without_result", "call without its result"
    ),
    left_out(
        "D22 then a question",
        50,
        conversation(USER, CALL, USER, SAYS),
        "call_without_result",
        "call without its result",
    ),
    left_out(
        "D22 a result alone",
        50,
        conversation(USER, SAYS, turn("tool", "7"), SAYS),
        "result_without_call",
        "result without a call",
    ),
    # D23 all rows are one
    Case(
        "D23 equal",
        put("d.jsonl", lines([pair(1)] * 40)),
        r"One usable row is left.*39 rows are equal to an earlier row.*d\.jsonl:2",
        ".",
    ),
    Case(
        "D23 but for white space",
        put("d.jsonl", lines({**pair(1), "meta": n} for n in range(40))),
        r"One usable row is left.*39 rows are equal",
        ".",
    ),
    # D24 many duplicates
    warned(
        "D24 a half",
        put("d.jsonl", lines(_repeated(120, 60))),
        r"60 rows are equal to an earlier row.*d\.jsonl:61",
        {"duplicate": 60},
    ),
    warned(
        "D24 a quarter",
        put("d.csv", table(_repeated(80, 60))),
        r"20 rows are equal to an earlier row.*d\.csv:62",
        {"duplicate": 20},
    ),
    # D25 training rows among the held-out rows
    Case(
        "D25 many",
        put("t.jsonl", lines(pairs())),
        r"20 of 200 held-out rows are training rows too.*t\.jsonl:41",
        r"\w+",
        data=_overlap(20),
    ),
    warned(
        "D25 one",
        put("t.jsonl", lines(pairs())),
        r"(1|one) .*held-out.*t\.jsonl:60",
        {"in_held_out": 1},
        data=_overlap(1),
    ),
    # D26 contradictions
    warned(
        "D26 labels",
        put(
            "t.csv",
            table([{"text": f"Parcel {n // 2} is late.", "label": "good" if n % 2 else "bad"} for n in range(80)]),
        ),
        r"question.*different.*t\.csv:\d+",
        data={"mapping": {"prompt": "text", "completion": "label"}},
    ),
]


def _pairs_of(*odd: dict[str, Any]) -> list[dict[str, Any]]:
    """Return preferences, the odd ones from row 4 on."""
    good = [{"prompt": f"Why {n}?", "chosen": f"So {n}.", "rejected": f"No {n}."} for n in range(30)]
    return [*good[:3], *odd, *good[3:]]


def _whole(*odd: dict[str, Any]) -> list[dict[str, Any]]:
    good = [
        {"chosen": [turn("user", f"Why {n}?"), SAYS], "rejected": [turn("user", f"Why {n}?"), turn("assistant", "No.")]}
        for n in range(30)
    ]
    return [*good[:3], *odd, *good[3:]]


ASKS, NO = turn("user", "Why?"), turn("assistant", "No.")
BROKEN_PREFERENCES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "D27 text": (_pairs_of({"prompt": "Q?", "chosen": "A", "rejected": "A"}), "equal_answers"),
    "D27 turns": (_whole({"chosen": [ASKS, NO], "rejected": [ASKS, NO]}), "equal_answers"),
    "D28 other question": (_whole({"chosen": [ASKS, SAYS], "rejected": [turn("user", "How?"), NO]}), "prompt_mismatch"),
    "D28 a turn more": (
        _whole({"chosen": [ASKS, SAYS, turn("user", "A?"), SAYS], "rejected": [ASKS, SAYS, turn("user", "B?"), NO]}),
        "prompt_mismatch",
    ),
    "D29 no label": (
        [{"text": f"Parcel {n}.", "label": None if n == 3 else ("late", "lost")[n % 2]} for n in range(30)],
        "missing_label",
    ),
    "D29 blank label": (
        [{"review": f"Parcel {n}.", "sentiment": " " if n == 3 else ("late", "lost")[n % 2]} for n in range(30)],
        "missing_label",
    ),
    "D29 a list in it": (
        [{"text": f"Parcel {n}.", "label": [["a"]] if n == 3 else ("late", "lost")[n % 2]} for n in range(30)],
        "broken_label",
    ),
}
"""Rows of which the fourth cannot be used, and why."""
