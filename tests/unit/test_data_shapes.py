"""Shapes are found by what the cells hold as much as by names, whatever the order of the columns and others beside."""

import itertools
import json

import pytest

from engine.data.formats import TAKEN_FROM, candidates, find_shape
from engine.data.rows import RawRow
from engine.recipe.problems import ProblemError
from engine.recipe.schema_data import DataSection

TALK = [{"role": "user", "content": "Which way?"}, {"role": "assistant", "content": "Left."}]
SHAREGPT = [{"from": "human", "value": "Which way?"}, {"from": "gpt", "value": "Left."}]
ASKED = [{"role": "user", "content": "Which way?"}]
NO = {"role": "assistant", "content": "No idea."}
YES = {"role": "assistant", "content": "Left, then right."}
WHOLE = "\n\nHuman: Which way?\n\nAssistant: Left."
WORSE = "\n\nHuman: Which way?\n\nAssistant: Dunno."


def raw(*values: dict) -> list[RawRow]:
    return [RawRow(f"r.jsonl:{number}", value) for number, value in enumerate(values, 1)]


def many(count: int = 24, **columns) -> list[RawRow]:
    """Return rows whose text cells are told apart by their number; cells that are functions are given it."""
    return raw(
        *({name: cell(number) if callable(cell) else cell for name, cell in columns.items()} for number in range(count))
    )


def best(rows: list[RawRow], objective: str | None = None):
    return candidates(rows, objective)[0]


FOUND = {
    "prompt and completion": ({"prompt": "a", "completion": "b"}, "prompt_completion"),
    "question and answer": ({"Question": "a?", "Answer": "b"}, "prompt_completion"),
    "alpaca": ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
    "alpaca rendered too": ({"instruction": "a", "input": "", "output": "b", "text": "a b"}, "alpaca"),
    "messages": ({"messages": TALK}, "messages"),
    "messages under another name": ({"verlauf": TALK, "nr": 3}, "messages"),
    "messages spelled as JSON": ({"messages": json.dumps(TALK), "x": 1}, "messages"),
    "sharegpt": ({"conversations": SHAREGPT, "system": "Be terse."}, "messages"),
    "transcript": ({"text": WHOLE}, "messages"),
    "guanaco": ({"text": "### Human: Which way?### Assistant: Left."}, "messages"),
    "source and target": ({"source": ["One.", "Two."], "target": ["Sum."]}, "source_target"),
    "article and highlights": ({"article": "Long text", "highlights": "Short", "id": "7"}, "source_target"),
    "text": ({"text": "Once upon a time."}, "text"),
    "text and label": ({"text": "It was fine.", "label": "good"}, "text_label"),
    "text and number": ({"sentence": "It was fine.", "label": 1, "idx": 7}, "text_label"),
    "text and labels": ({"text": "It was fine.", "labels": ["a", "b"]}, "text_label"),
    "preference": ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
    "preference as turns": ({"prompt": ASKED, "chosen": [YES], "rejected": [NO]}, "preference"),
    "preference as whole turns": ({"chosen": [*ASKED, YES], "rejected": [*ASKED, NO], "score": 3.5}, "preference"),
    "preference beside messages": (
        {"prompt": "Which way?", "prompt_id": "7", "chosen": [*ASKED, YES], "rejected": [*ASKED, NO], "messages": TALK},
        "preference",
    ),
    "preference as transcripts": ({"chosen": WHOLE, "rejected": WORSE}, "preference"),
    "preference in sharegpt form": (
        {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "Right."}},
        "preference",
    ),
    "rated answers": ({"prompt": "a", "completion": "b", "label": True}, "unpaired_preference"),
    "rated answers in a CSV": ({"prompt": "a", "completion": "b", "label": "false"}, "unpaired_preference"),
    "rewards": ({"prompt": "a", "completion": "b", "reward": 0.5}, "prompts"),
    "prompts alone": ({"prompt": "Prove it."}, "prompts"),
}


@pytest.mark.parametrize(("row", "expected"), FOUND.values(), ids=FOUND.keys())
def test_shape_is_found_in_any_order_of_columns_and_beside_others(row, expected):
    found = [best(raw(*[dict(order)] * 3)) for order in itertools.islice(itertools.permutations(row.items()), 24)]
    assert {candidate.format for candidate in found} == {expected}
    assert len({tuple(sorted(candidate.mapping.items())) for candidate in found}) == 1
    beside = best(raw(*[{"row_uuid": "f3a9", **row, "split_name": None, "meta": {"a": [1]}}] * 3))
    assert (beside.format, beside.mapping) == (found[0].format, found[0].mapping)
    assert "'row_uuid'" in beside.evidence
    assert beside.confidence >= TAKEN_FROM


@pytest.mark.parametrize(("row", "expected"), FOUND.values(), ids=FOUND.keys())
def test_example_is_a_row_in_canonical_form(row, expected):
    candidate = best(raw(row))
    assert candidate.example["id"] == "r.jsonl:1"
    keys = {
        "text": {"text"},
        "text_label": {"text"},
        "preference": {"prompt", "chosen", "rejected"},
        "unpaired_preference": {"prompt", "completion", "label"},
        "prompts": {"prompt"},
    }
    assert set(candidate.example) >= keys.get(expected, {"messages"})


class TestByContent:
    def test_questions_are_told_from_answers_by_their_marks(self):
        rows = many(
            pregunta=lambda n: f"¿Cuánto cuesta el billete número {n}?",
            respuesta=lambda n: f"El billete número {n} cuesta {n} euros.",
        )
        candidate = best(rows, "chat")
        assert candidate.mapping == {"prompt": "pregunta", "completion": "respuesta"}
        assert "100 % of the prompts end with a question mark" in candidate.evidence
        assert candidate.confidence >= TAKEN_FROM

    def test_two_columns_of_prose_are_offered_both_ways_and_not_taken(self):
        rows = many(
            transcript=lambda n: f"Good morning, number {n}. " * 20,
            note=lambda n: f"The visitor with number {n} said good morning.",
            ward=lambda n: "ABC"[n % 3],
        )
        offered = candidates(rows, "chat")
        assert [candidate.mapping for candidate in offered[:2]] == [
            {"source": "transcript", "target": "note"},
            {"prompt": "note", "completion": "transcript"},
        ]
        with pytest.raises(ProblemError) as caught:
            find_shape(rows, DataSection(source="r.jsonl"), objective="chat")
        problem = caught.value.problems[0]
        assert problem.code == "data.shape_unsure"
        assert "{source: transcript, target: note}" in problem.fix
        assert "ignored: 'ward'" in problem.message

    def test_few_values_that_come_again_look_like_labels(self):
        rows = many(remark=lambda n: f"Parcel {n} came late again.", queue=lambda n: ["post", "refund"][n % 2])
        candidate = best(rows)
        assert (candidate.format, candidate.mapping) == ("text_label", {"text": "remark", "label": "queue"})
        assert "only 2 different values" in candidate.evidence
        assert candidate.confidence < TAKEN_FROM

    def test_only_column_of_prose_is_the_text(self):
        rows = many(story=lambda n: f"Once upon a time there were {n} sheep on the hill. " * 3, nr=lambda n: n)
        shape = find_shape(rows, DataSection(source="r.jsonl"), objective="domain-adaptation")
        assert (shape.format, shape.mapping) == ("text", {"text": "story"})

    def test_addresses_and_names_are_no_prose(self):
        rows = many(url=lambda n: f"https://example.org/pages/number/{n}", code=lambda n: f"{n:032x}")
        assert candidates(rows) == []

    def test_two_columns_of_turns_are_not_guessed_between(self):
        rows = raw(*[{"first_try": TALK, "second_try": TALK}] * 3)
        offered = candidates(rows, "chat")
        assert [candidate.mapping["messages"] for candidate in offered] == ["first_try", "second_try"]
        with pytest.raises(ProblemError, match="in 2 ways, none of them certain"):
            find_shape(rows, DataSection(source="r.jsonl"), objective="chat")

    def test_column_called_messages_without_answers_is_not_taken(self):
        rows = raw(*[{"messages": ASKED}] * 3)
        assert best(rows, "chat").confidence < TAKEN_FROM
        assert "few of them hold an answer" in best(rows, "chat").evidence

    def test_evidence_of_hostile_columns_cannot_act_on_a_terminal(self):
        rows = raw(*[{"prompt": "a", "completion": "b", "\x1b]52;c;x\x07": "c"}] * 3)
        assert "\x1b" not in best(rows).evidence


class TestChatOnOtherShapes:
    """Preferences, ratings and labels teach answers only when somebody says so."""

    @pytest.mark.parametrize(
        ("row", "mapping"),
        [
            ({"chosen": WHOLE, "rejected": WORSE}, {"messages": "chosen"}),
            ({"prompt": "a", "chosen": "b", "rejected": "c"}, {"messages": "prompt", "completion": "chosen"}),
            (
                {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": {"from": "gpt", "value": "No."}},
                {"messages": "conversations", "completion": "chosen"},
            ),
            ({"prompt": "a", "completion": "b", "label": True}, {"prompt": "prompt", "completion": "completion"}),
            ({"text": "a b", "label": "c"}, {"prompt": "text", "completion": "label"}),
        ],
    )
    def test_only_an_explicit_mapping_takes_them(self, row, mapping):
        rows = raw(*[row] * 3)
        with pytest.raises(ProblemError) as caught:
            find_shape(rows, DataSection(source="r.jsonl"), objective="chat")
        assert caught.value.problems[0].code == "data.shape_unsure"
        assert mapping in [candidate.mapping for candidate in candidates(rows, "chat")]
        assert find_shape(rows, DataSection(source="r.jsonl", mapping=mapping), objective="chat").mapping == mapping

    def test_messages_beside_preferences_are_taken(self):
        row = {"prompt": "a", "chosen": [*ASKED, YES], "rejected": [*ASKED, NO], "messages": TALK}
        shape = find_shape(raw(*[row] * 3), DataSection(source="r.jsonl"), objective="chat")
        assert shape.mapping == {"messages": "messages"}

    def test_score_beside_a_pair_is_no_rating(self):
        row = {"question": "a", "answer": "b", "score": 0.7, "label": "physics"}
        shape = find_shape(raw(*[row] * 3), DataSection(source="r.jsonl"), objective="chat")
        assert shape.format == "prompt_completion"


def test_mapping_to_a_shape_that_the_objective_does_not_read_is_refused():
    data = DataSection(source="r.jsonl", mapping={"chosen": "a", "rejected": "b"})
    with pytest.raises(ProblemError, match="roles of preference, which the objective chat does not read"):
        find_shape(raw({"a": "x", "b": "y"}), data, objective="chat")


def test_rows_at_even_distances_decide_not_the_first_ones():
    rows = raw(*[{"messages": "lost"}] * 1500, *[{"messages": TALK}] * 9000)
    assert best(rows, "chat").mapping == {"messages": "messages"}


class TestHeldOutFile:
    TRAIN = many(frage=lambda n: f"Wie viel kostet Fahrkarte {n}?", antwort=lambda n: f"Fahrkarte {n} kostet {n} Euro.")

    def test_few_rows_are_read_as_the_training_rows_are(self):
        data = DataSection(source="r.jsonl")
        shape = find_shape(self.TRAIN, data, objective="chat")
        few = raw({"antwort": "Drei Euro.", "frage": "Und der Bus?"})
        with pytest.raises(ProblemError):
            find_shape(few, data, objective="chat")
        held_out = find_shape(few, data, objective="chat", like=shape)
        assert (held_out.format, held_out.mapping) == (shape.format, shape.mapping)

    def test_file_with_other_columns_is_read_by_itself(self):
        data = DataSection(source="r.jsonl")
        shape = find_shape(self.TRAIN, data, objective="chat")
        held_out = find_shape(raw({"prompt": "a", "completion": "b"}), data, objective="chat", like=shape)
        assert held_out.mapping == {"prompt": "prompt", "completion": "completion"}

    def test_so_it_is_under_the_mapping_that_a_plan_writes_down_for_the_run(self):
        shape = find_shape(self.TRAIN, DataSection(source="r.jsonl"), objective="chat")
        planned = DataSection(source="r.jsonl", format=shape.format, mapping=shape.mapping)
        held_out = find_shape(raw({"prompt": "a", "completion": "b"}), planned, objective="chat", like=shape)
        assert held_out.mapping == {"prompt": "prompt", "completion": "completion"}
        with pytest.raises(ProblemError, match="has no column 'frage'"):
            find_shape(raw({"prompt": "a", "completion": "b"}), planned, objective="chat")
