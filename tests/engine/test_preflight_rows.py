"""Preflight of rendered rows: each planted defect is found by its check, and its clean twin passes all of them."""

import json
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

import pytest

from engine.data import preflight_case
from engine.data.bytes_in import ReadingStoppedError
from engine.data.preflight import blocking, check_rendering, findings_of
from engine.data.preflight_case import PreflightCase, percent
from engine.data.preflight_rows import check_repeats
from engine.data.profile import profile_data
from engine.data.progress import WorkWatch
from engine.data.rendered import ListedSequences, Rendered, RenderedRows
from engine.data.rendering import Renderer
from engine.data.row_store import row_text
from engine.data.spelling import lost_letters
from engine.data.tokenized import tokenize
from engine.planning.profiles import PreflightCheck
from engine.recipe.schema import Recipe
from tests.engine import chat_templates as shapes
from tests.engine.chat_templates import byte_level_tokenizer, sentencepiece_tokenizer, tokens_in
from tests.engine.tiny_models import command_rows, save_tiny_model, text_rows, tiny_tokenizer

UNCUT = 1 << 30
TEMPLATES = {
    "chatml": shapes.CHATML,
    "llama3": shapes.LLAMA3,
    "mistral": shapes.MISTRAL,
    "gemma": shapes.GEMMA,
    "zephyr": shapes.ZEPHYR,
    "thinking": shapes.THINKING,
    "marked": shapes.MARKED,
    "marked and counted": shapes.MARKED_AND_COUNTED,
    "headers close turns": shapes.HEADERS_CLOSE_TURNS,
    "plain words": shapes.PLAIN_WORDS,
    "tools": shapes.TOOLS,
}
ANSWERS_ONLY = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# The length after each pair keeps the answers from being found in the text, so that the markers are believed.
MARKS_QUESTIONS = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{% if loop.last %}{{ '<|user|>\n' + m['content'] + '\n' }}"
    "{% else %}{% set answer = messages[loop.index0 + 1]['content'] %}"
    "{% generation %}{{ '<|user|>\n' + m['content'] + '\n<|assistant|>\n' + answer + eos_token }}{% endgeneration %}"
    "{{ answer | length }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def recipe_of(**sections: dict[str, Any]) -> Recipe:
    tree = {"objective": "chat", "model": {"base": "m"}, "method": {"name": "lora"}, "data": {"source": "r.jsonl"}}
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return Recipe.model_validate(tree)


def make_case(rows: list[dict], tokenizer: Any = None, *, max_length: int = 256, **facts: Any) -> PreflightCase:
    renderer = Renderer(tokenizer or tiny_tokenizer(), UNCUT)
    defaults: dict[str, Any] = {
        "recipe": recipe_of(),
        "held_out_rows": [],
        "whole": tokenize(rows, renderer).cut(UNCUT),
        "max_length": max_length,
        "vocab_size": len(renderer.tokenizer),
    }
    return PreflightCase(renderer=renderer, train_rows=rows, **(defaults | facts))


def check(case: PreflightCase, check_id: str) -> PreflightCheck:
    return next(each for each in check_rendering(case) if each.id == check_id)


def troubled(case: PreflightCase) -> dict[str, str]:
    return {each.id: each.message for each in check_rendering(case) if each.status in ("blocked", "warning")}


def conversations(count: int) -> list[dict]:
    """Return two-turn rows whose words differ."""
    return [
        {
            "id": f"talk.jsonl:{number + 1}",
            "messages": [
                {"role": "user", "content": f"What is the answer to question {number}?"},
                {"role": "assistant", "content": f"It is {number * 7} boxes."},
                {"role": "user", "content": f"And of the other {number + 3}?"},
                {"role": "assistant", "content": f"Quite so, {number * 5} or four."},
            ],
        }
        for number in range(count)
    ]


def altered(case: PreflightCase, change: Any) -> PreflightCase:
    """Return the case with other sequences, as a fault of the renderer would make them."""
    sequences = ListedSequences([change(each) for each in case.whole.sequences])
    whole = RenderedRows(sequences, case.whole.dropped, case.whole.num_cut, case.whole.spelled)
    facts = {name: getattr(case, name) for name in case.__dataclass_fields__} | {"whole": whole}
    return PreflightCase(**facts)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer], ids=["bytes", "sentencepiece"])
def test_clean_rows_pass_every_check_with_every_template(name: str, make: Any) -> None:
    template = TEMPLATES[name]
    extra = (tokens_in(template),) if make is byte_level_tokenizer else (ascii_letters + digits,)
    checks = check_rendering(make_case(conversations(40), make(template, *extra)))
    assert {each.id: each.message for each in checks if each.status != "passed" and each.id != "P14"} == {}
    assert [each.id for each in checks] == ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P13", "P14", "P15"]


def test_clean_rows_and_text_of_a_tiny_model_pass() -> None:
    assert troubled(make_case(command_rows(40))) == {}
    assert troubled(make_case(text_rows(12), recipe=recipe_of(objective="domain-adaptation"))) == {}


def test_loss_on_questions_blocks_with_rows() -> None:
    def train_all_but_first(each: Rendered) -> Rendered:
        mask = [0, 0, *[1] * (len(each.input_ids) - 2)]
        return Rendered(each.input_ids, mask, False, each.id, each.num_before_cut)

    found = check(altered(make_case(conversations(20)), train_all_but_first), "P1")
    assert found.status == "blocked"
    assert "questions" in found.message
    assert found.rows[:2] == ["talk.jsonl:1", "talk.jsonl:2"]
    assert found.measured["rows_that_train_questions"] == 20


def test_generation_markers_around_questions_block() -> None:
    tokenizer = byte_level_tokenizer(MARKS_QUESTIONS, tokens_in(MARKS_QUESTIONS))
    found = check(make_case(conversations(20), tokenizer), "P1")
    assert (found.status, found.measured["rows_that_train_questions"]) == ("blocked", 20)


def test_an_answer_without_loss_blocks() -> None:
    def first_answer_only(each: Rendered) -> Rendered:
        end = each.trained_mask.index(0, each.trained_mask.index(1))
        mask = [*each.trained_mask[:end], *[0] * (len(each.trained_mask) - end)]
        return Rendered(each.input_ids, mask, False, each.id, each.num_before_cut)

    found = check(altered(make_case(conversations(20)), first_answer_only), "P1")
    assert found.status == "blocked"
    assert "leaves out an answer" in found.message


def test_a_chat_that_trains_everything_asks_and_the_recipe_can_allow_it() -> None:
    rows, tokenizer = conversations(20), byte_level_tokenizer(ANSWERS_ONLY)
    found = check(make_case(rows, tokenizer), "P1")
    assert found.status == "blocked"
    assert "data.allow_all_trained: true" in found.fix
    allowed = make_case(rows, tokenizer, recipe=recipe_of(data={"allow_all_trained": True}))
    assert check(allowed, "P1").status == "warning"
    assert "preflight.p1" not in {problem.code for problem in blocking(check_rendering(allowed))}
    assert "preflight.p1" in {problem.code for problem in blocking(check_rendering(make_case(rows, tokenizer)))}


def in_greek(rows: list[dict], each: int = 1) -> list[dict]:
    """Return rows of which every so many-th speaks a script that the small tokenizers do not know."""
    letters = str.maketrans({letter: chr(0x3B1 + number) for number, letter in enumerate("abcdefghijklmnopqrstuvwxyz")})

    def translated(message: dict) -> dict:
        return message | {"content": message["content"].lower().translate(letters)}

    return [
        row if number % each else row | {"messages": [translated(message) for message in row["messages"]]}
        for number, row in enumerate(rows)
    ]


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_script_that_the_tokenizer_lacks_is_named_and_no_question_is_said_to_be_trained(name: str) -> None:
    found = check(make_case(in_greek(conversations(20)), sentencepiece_tokenizer(TEMPLATES[name])), "P1")
    assert found.measured["rows_that_train_questions"] == 0
    assert (found.status, len(found.rows)) == ("blocked", 20)
    assert "does not know" in found.message
    assert "ε" in found.message
    assert "base model" in found.fix


def test_a_few_rows_with_unknown_signs_warn_and_known_scripts_pass() -> None:
    template = TEMPLATES["chatml"]
    few = in_greek(conversations(20), each=5)
    found = check(make_case(few, sentencepiece_tokenizer(template, ascii_letters + digits)), "P1")
    assert (found.status, found.rows) == ("warning", [few[number]["id"] for number in (0, 5, 10, 15)])
    assert 0.1 < found.measured["lost_chars_share"] < 0.3
    assert check(make_case(few, byte_level_tokenizer(template)), "P1").status == "passed"


def test_plain_text_in_a_script_that_the_tokenizer_lacks_blocks() -> None:
    texts = [{"id": f"t.txt:{number}", "text": "κάθε άνθρωπος είναι ελεύθερος " * number} for number in range(1, 9)]
    recipe = recipe_of(objective="domain-adaptation")
    found = check(make_case(texts, sentencepiece_tokenizer(None), recipe=recipe), "P1")
    assert (found.status, found.measured["lost_chars_share"]) == ("blocked", 1.0)
    assert check(make_case(texts, byte_level_tokenizer(None), recipe=recipe), "P1").status == "passed"


def test_changed_case_and_accents_are_not_lost_characters() -> None:
    assert lost_letters("Élan für  ALLE", "elanfuralle").total() == 0
    assert lost_letters("a{b}a", "aba") == {"{": 1, "}": 1}


def test_an_answer_that_quotes_its_question_trains_no_question() -> None:
    rows = conversations(30)
    for row in rows:
        question = row["messages"][2]["content"]
        row["messages"][1]["content"] = f"You ask me: {question}"
    rewrites = shapes.CHATML.replace("m['content']", "m['content'] | replace('You ask me', 'So')")
    found = check(make_case(rows, byte_level_tokenizer(rewrites)), "P1")
    assert (found.status, found.measured["rows_that_train_questions"]) == ("warning", 0)
    assert "otherwise" in found.message


def test_a_call_that_holds_what_was_asked_trains_no_question() -> None:
    rows = [
        {
            "id": f"r:{number}",
            "messages": [
                {"role": "user", "content": f"Hotel number {number}"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        {"type": "function", "function": {"name": "find", "arguments": {"q": f"Hotel number {number}"}}}
                    ],
                },
                {"role": "tool", "content": f"{number * 3} rooms"},
                {"role": "assistant", "content": f"It has {number * 3} of them."},
            ],
        }
        for number in range(30)
    ]
    assert check(make_case(rows, byte_level_tokenizer(shapes.TOOLS)), "P1").status == "passed"


def test_of_rows_as_long_as_books_a_few_are_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = conversations(60)
    assert len(make_case(rows).drawn) == 60
    monkeypatch.setattr(preflight_case, "DRAWN_CHARS", sum(len(row_text(row)) for row in rows[:30]))
    assert 27 <= len(make_case(rows).drawn) <= 33
    monkeypatch.setattr(preflight_case, "DRAWN_CHARS", 1)
    assert len(make_case(rows).drawn) == preflight_case.LEAST_DRAWN


def test_no_token_trained_blocks() -> None:
    def nothing(each: Rendered) -> Rendered:
        return Rendered(each.input_ids, [0] * len(each.input_ids), False, each.id, each.num_before_cut)

    assert check(altered(make_case(conversations(5)), nothing), "P1").status == "blocked"


def test_answers_without_an_end_block_and_a_rare_one_warns() -> None:
    def without_end(each: Rendered) -> Rendered:
        last = len(each.trained_mask) - 1 - each.trained_mask[::-1].index(1)
        return Rendered(each.input_ids[:last], each.trained_mask[:last], False, each.id, last)

    case = make_case(conversations(200))
    found = check(altered(case, without_end), "P2")
    assert (found.status, found.measured["without_end"]) == ("blocked", 200)
    one = altered(case, lambda each: without_end(each) if each.id == "talk.jsonl:7" else each)
    assert (check(one, "P2").status, check(one, "P2").rows) == ("warning", ["talk.jsonl:7"])


def test_padding_with_the_end_token_keeps_its_labels() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    found = check(make_case(command_rows(20), tokenizer), "P3")
    assert found.status == "passed"
    assert found.measured["shared_token"] == 1
    assert found.measured["padding"] > 0


def test_a_collator_that_hides_ends_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.objectives import sequences

    whole = sequences.SequenceCollator.__call__

    def by_pad_id(self: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = whole(self, rows)
        batch["labels"][batch["input_ids"] == self.pad_token_id] = -100
        return batch

    monkeypatch.setattr(sequences.SequenceCollator, "__call__", by_pad_id)
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    assert check(make_case(command_rows(20), tokenizer), "P3").status == "blocked"
    assert check(make_case(command_rows(20)), "P3").status == "passed"


def test_a_template_that_begins_twice_is_caught_where_it_is_served() -> None:
    tokenizer = byte_level_tokenizer("{{ bos_token }}" + shapes.MISTRAL)
    found = {each.id: each for each in check_rendering(make_case(conversations(12), tokenizer))}
    assert found["P4"].status == "blocked"
    assert "serving" in found["P4"].message
    assert found["P5"].status == "blocked"


def test_sequences_that_begin_twice_are_caught() -> None:
    def doubled(each: Rendered) -> Rendered:
        ids, mask = [each.input_ids[0], *each.input_ids], [0, *each.trained_mask]
        return Rendered(ids, mask, False, each.id, len(ids))

    tokenizer = byte_level_tokenizer(shapes.MISTRAL)
    case = make_case(conversations(12), tokenizer)
    found = check(altered(case, doubled), "P4")
    assert (found.status, found.measured["doubled_in_training"]) == ("blocked", 12)
    assert check(altered(case, doubled), "P6").status == "blocked"


def test_another_template_in_the_export_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(conversations(12), byte_level_tokenizer(shapes.CHATML))
    save = type(case.renderer.tokenizer).save_pretrained

    def with_another_template(self: Any, folder: Any, **options: Any) -> Any:
        kept, self.chat_template = self.chat_template, shapes.ZEPHYR
        saved = save(self, folder, **options)
        self.chat_template = kept
        return saved

    monkeypatch.setattr(type(case.renderer.tokenizer), "save_pretrained", with_another_template)
    found = check(case, "P5")
    assert found.status == "blocked"
    assert "exported tokenizer and the chat" in found.message


def test_lost_answers_block_and_cut_ones_are_counted() -> None:
    rows = conversations(100)
    lost = check(make_case(rows, max_length=8), "P7")
    assert (lost.status, lost.measured["answers_lost"]) == ("blocked", 100)
    rows[4]["messages"][0]["content"] = "why " * 300
    few = check(make_case(rows, max_length=256), "P7")
    assert (few.status, few.rows) == ("warning", ["talk.jsonl:5"])
    rows[4]["messages"][0]["content"] = "Why?"
    rows[4]["messages"][1]["content"] = "so " * 300
    ended = check(make_case(rows, max_length=256), "P7")
    assert (ended.status, ended.measured["ends_lost"]) == ("passed", 1)
    several = rows[:50] + [{**row, "messages": rows[4]["messages"]} for row in rows[50:55]]
    assert check(make_case(several, max_length=256), "P7").status == "warning"


@pytest.mark.parametrize(("num_long", "severity"), [(0, None), (1, "warning"), (5, "error")])
def test_d40_a_row_beyond_the_context_that_loses_its_answer_is_located(
    tmp_path: Path, num_long: int, severity: str | None
) -> None:
    folder = save_tiny_model(tmp_path / "model")
    rows = [{"prompt": f"turn on lamp {number}", "completion": f"on(lamp_{number})"} for number in range(120)]
    for number in range(num_long):
        rows[7 * (number + 1) - 1]["prompt"] += " and the other one" * 2000
    file = tmp_path / "lamps.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "other.jsonl").write_text('{"prompt": "turn off the radio", "completion": "off(radio)"}')
    data = {"source": str(file), "held_out": str(tmp_path / "other.jsonl")}
    recipe = recipe_of(model={"base": str(folder)}, data=data)
    findings = {each.code: each for each in profile_data(recipe, folder=str(folder)).findings}
    found = findings.get("preflight.p7")
    assert (None if found is None else found.severity) == severity
    if found is not None:
        assert "its answer (lamps.jsonl:7" in found.message.replace("their", "its")
        # Of one row the plan takes 40 tokens, which may be more; of five all that the model reads.
        assert ("training.max_length" if num_long == 1 else "Take a model that reads more than 256") in found.fix


def test_rows_that_vanish_uncounted_block() -> None:
    case = make_case(conversations(10))
    fewer = RenderedRows(ListedSequences(list(case.whole.sequences)[:7]))
    facts = {name: getattr(case, name) for name in case.__dataclass_fields__} | {"whole": fewer}
    found = check(PreflightCase(**facts), "P7")
    assert (found.status, found.rows) == ("blocked", ["talk.jsonl:8", "talk.jsonl:9", "talk.jsonl:10"])


def test_ids_beyond_the_vocabulary_block() -> None:
    case = make_case(command_rows(20), vocab_size=200)
    assert check(case, "P13").status == "blocked"
    assert check(make_case(command_rows(20), vocab_size=None), "P13").status == "skipped"


def test_leaked_rows_block_with_the_rows_unless_the_recipe_reports_them() -> None:
    rows = conversations(100)
    held = [{**row, "id": f"held.jsonl:{number}"} for number, row in enumerate(rows[:3])]
    found = check(make_case(rows, held_out_rows=held), "P14")
    assert (found.status, found.rows) == ("blocked", ["held.jsonl:0", "held.jsonl:1", "held.jsonl:2"])
    told = recipe_of(data={"cleaning": {"leaked_rows": "report"}})
    assert check(make_case(rows, held_out_rows=held, recipe=told), "P14").status == "warning"
    assert check(make_case(rows[10:], held_out_rows=held), "P14").status == "passed"


def test_rows_that_leak_with_other_spaces_or_a_few_words_more_warn() -> None:
    words = " ".join(f"word{number}" for number in range(60))
    rows = conversations(30)
    rows[3]["messages"][3]["content"] = words
    shouted = {"id": "held.jsonl:1", "messages": [dict(message) for message in rows[5]["messages"]]}
    shouted["messages"][0]["content"] = shouted["messages"][0]["content"].upper() + "  "
    longer = conversations(31)[30] | {"id": "held.jsonl:2"}
    longer["messages"][3]["content"] = f"{words} and more"
    found = check(make_case(rows, held_out_rows=[shouted, longer]), "P14")
    assert (found.status, found.rows) == ("warning", ["held.jsonl:1", "held.jsonl:2"])
    assert found.measured["equal"] == 0


def test_one_answer_to_everything_blocks_and_many_repeats_warn() -> None:
    rows = conversations(20)
    for row in rows:
        row["messages"][3]["content"] = "Yes."
    assert check(make_case(rows), "P15").status == "blocked"
    repeated = conversations(20)
    repeated += [{**row, "id": f"again.jsonl:{number}"} for number, row in enumerate(repeated[:10])]
    found = check(make_case(repeated), "P15")
    assert (found.status, len(found.rows)) == ("warning", 10)
    one = make_case(conversations(1), num_duplicates_dropped=30)
    assert check(one, "P15").status == "blocked"


class ReadOnce(list[dict]):
    """Rows that count how often one is read on the way through all of them."""

    def __init__(self, rows: list[dict]) -> None:
        super().__init__(rows)
        self.num_read = 0

    def __iter__(self) -> Any:
        for row in super().__iter__():
            self.num_read += 1
            yield row


def test_repeats_and_leaks_read_all_rows_together_once() -> None:
    case = make_case(conversations(30), held_out_rows=[row | {"id": "h:1"} for row in conversations(1)])
    rows = ReadOnce(conversations(30))
    facts = {name: getattr(case, name) for name in case.__dataclass_fields__} | {"train_rows": rows}
    again = PreflightCase(**facts)
    assert [check_repeats(again).status, check_repeats(again).status] == ["passed", "passed"]
    assert rows.num_read == 30


def test_comparing_rows_can_be_stopped() -> None:
    def asked() -> bool:
        return True

    case = make_case(conversations(5), watch=WorkWatch(should_stop=asked))
    with pytest.raises(ReadingStoppedError):
        check_repeats(case)


def test_repeats_are_counted_all_and_named_a_few() -> None:
    rows = conversations(30)
    rows += [{**row, "id": f"again.jsonl:{number}"} for number, row in enumerate(rows)]
    found = check(make_case(rows), "P15")
    assert (len(found.rows), found.measured["distinct_rows"]) == (20, 30)
    assert "again.jsonl:2 and 27 more" in found.message


def test_rows_that_a_weight_repeats_are_no_duplicates() -> None:
    rows = conversations(20)
    assert check(make_case([*rows, *rows, *rows]), "P15").status == "passed"


def test_findings_name_their_field_and_only_what_is_wrong() -> None:
    checks = check_rendering(make_case(conversations(100), max_length=8))
    assert [(finding.code, finding.path, finding.severity) for finding in findings_of(checks)] == [
        ("preflight.p7", "training.max_length", "error")
    ]


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0 %"), (1.0, "100 %"), (0.62, "62 %"), (0.003, "0.3 %"), (0.034, "3.4 %")]
)
def test_shares_are_said_shortly(share: float, said: str) -> None:
    assert percent(share) == said
