"""Whatever rows hold, each is used or counted, and what is used has its canonical form."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.data.conversations import REASONS, canonical_rows, change_findings
from engine.data.formats import candidates
from engine.data.rows import RawRow, Tally, last_answer
from engine.data.shapes_names import USUAL
from engine.data.shapes_roles import NEEDED, Shape, roles_of
from engine.data.shapes_turns import ROLE_ALIASES

TEXTS = st.text(max_size=12) | st.sampled_from(
    ["", " ", "yes", "true", "[", "[{", '[{"role": "user"}]', '{"name": "f"}', "\n\nHuman: a\n\nAssistant: b", "nan"]
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | TEXTS
CALLS = st.fixed_dictionaries(
    {},
    optional={
        "id": SCALARS,
        "function": SCALARS | st.fixed_dictionaries({}, optional={"name": SCALARS, "arguments": SCALARS}),
        "name": SCALARS,
    },
)
TURNS = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from([*ROLE_ALIASES, "x", None, 3]),
        "from": st.sampled_from([*ROLE_ALIASES, "x"]),
        "content": SCALARS | st.lists(st.just({"type": "text", "text": "part"}), max_size=2),
        "value": SCALARS,
        "tool_calls": st.lists(CALLS | SCALARS, max_size=2) | SCALARS,
        "function_call": CALLS | SCALARS,
        "tool_call_id": SCALARS,
    },
)
CELLS = SCALARS | TURNS | st.lists(TURNS, max_size=4) | st.lists(SCALARS, max_size=3)
ROLES_OF_TURNS = {"system", "user", "assistant", "tool"}
fuzz = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def raw(values: list[dict]) -> list[RawRow]:
    return [RawRow(f"r:{number}", value) for number, value in enumerate(values, 1)]


def check_messages(messages: list[dict]) -> None:
    for message in messages:
        assert message["role"] in ROLES_OF_TURNS
        assert isinstance(message["content"], str)
        for call in message.get("tool_calls", ()):
            assert isinstance(call["function"]["arguments"], dict)


@fuzz
@given(st.sampled_from(sorted(NEEDED)), st.lists(st.lists(CELLS, min_size=5, max_size=5), min_size=1, max_size=4))
def test_each_row_is_used_or_counted(shape, table):
    columns = roles_of(shape)[:5]
    rows = raw([dict(zip(columns, cells, strict=False)) for cells in table])
    dropped, changed = Tally(), Tally()
    used = canonical_rows(rows, Shape(shape, {column: column for column in columns}, ""), dropped, changed)
    assert len(used) + dropped.total() == len(rows)
    assert set(dropped.counts) <= set(REASONS)
    assert all(finding.message for finding in change_findings(changed, used))
    for row in used:
        json.dumps(row)
        for key in ("messages", "prompt", "chosen", "rejected", "completion"):
            check_messages(row.get(key, []))
        if "messages" in row:
            assert row["messages"][-1]["role"] == "assistant"
            assert last_answer(row).strip()
        if "chosen" in row:
            assert row["chosen"] != row["rejected"]


@fuzz
@given(
    st.lists(
        st.dictionaries(st.sampled_from([name for names in USUAL.values() for name in names]), CELLS, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_detection_takes_any_cells(values):
    found = candidates(raw(values))
    assert [each.confidence for each in found] == sorted((each.confidence for each in found), reverse=True)
    columns = {column for row in values for column in row}
    for each in found:
        assert set(NEEDED[each.format]) <= set(each.mapping) <= set(roles_of(each.format))
        assert set(each.mapping.values()) <= columns
