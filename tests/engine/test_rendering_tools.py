"""Conversations with tools, token by token: calls are trained, definitions and results are only read."""

from pathlib import Path

import pytest
import trl

from engine.data.chat_template import TemplateRefusedError
from engine.data.rendering import Renderer
from engine.evaluation.prompts import question_from_row
from engine.models.tokenizers import chatml
from engine.recipe.problems import ProblemError
from tests.engine import chat_templates as shapes
from tests.engine.chat_templates import byte_level_tokenizer, tokens_in
from tests.engine.test_rendering import talk, trained, untrained

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_book",
            "description": "Finds a book.",
            "parameters": {
                "type": "object",
                "properties": {"title": {"type": "string", "description": "Its title."}},
                "required": ["title"],
            },
        },
    }
]


def call(title: str) -> dict:
    function = {"name": "find_book", "arguments": {"title": title}}
    return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}


def result(text: str) -> dict:
    return {"role": "tool", "name": "find_book", "content": text}


ROW = {
    "id": "r:1",
    "tools": TOOLS,
    "messages": [
        {"role": "user", "content": "Which shelf has Emma?"},
        call("Emma"),
        result('{"shelf": 7}'),
        {"role": "assistant", "content": "Shelf seven."},
        {"role": "user", "content": "Thanks"},
        {"role": "assistant", "content": "Welcome"},
    ],
}
WRITTEN = '<call>{"name": "find_book", "arguments": {"title": "Emma"}}</call>'
ANSWERS = ["Shelf seven.<|im_end|>", "Welcome<|im_end|>"]


def test_calls_and_answers_are_trained_and_definitions_and_results_are_not():
    renderer = Renderer(byte_level_tokenizer(shapes.TOOLS), 2048)
    (sequence,) = renderer.render_all(ROW)
    assert trained(renderer.tokenizer, sequence) == [f"{WRITTEN}<|im_end|>", *ANSWERS]
    context = untrained(renderer.tokenizer, sequence)
    assert "Finds a book." in context
    assert '{"shelf": 7}' in context
    assert "Thanks" in context


@pytest.mark.parametrize("at", [1, 3, 5])
def test_served_prompt_is_the_beginning_of_what_is_trained(at):
    renderer = Renderer(byte_level_tokenizer(shapes.TOOLS), 2048)
    row = {**ROW, "messages": ROW["messages"][: at + 1]}
    sequence, prompt = renderer.render(row), renderer.prompt_ids(row)
    assert sequence.input_ids[: len(prompt)] == prompt
    assert not sequence.trained_mask[len(prompt) - 1]
    assert all(sequence.trained_mask[len(prompt) : -1])
    assert "Finds a book." in renderer.tokenizer.decode(prompt)


def test_text_in_front_of_a_call_is_trained_with_it():
    renderer = Renderer(byte_level_tokenizer(shapes.TOOLS), 2048)
    row = {**ROW, "messages": [ROW["messages"][0], {**call("Emma"), "content": "I look."}]}
    assert trained(renderer.tokenizer, renderer.render(row)) == [f"I look.{WRITTEN}<|im_end|>"]


def test_conversation_that_calls_nothing_still_shows_the_definitions():
    renderer = Renderer(byte_level_tokenizer(shapes.TOOLS), 2048)
    row = {**talk("u:Hi", "a:Hello", "u:Bye", "a:So long"), "tools": TOOLS}
    (sequence,) = renderer.render_all(row)
    assert trained(renderer.tokenizer, sequence) == ["Hello<|im_end|>", "So long<|im_end|>"]
    assert "Finds a book." in untrained(renderer.tokenizer, sequence)
    assert "Finds" not in renderer.tokenizer.decode(renderer.render({**row, "tools": []}).input_ids)


class TestTemplatesWithoutTools:
    """A template that leaves calls out would train on nothing, or on answers from nowhere, without a word."""

    def refused(self, template: str, row: dict) -> str:
        with pytest.raises(ProblemError) as caught:
            Renderer(byte_level_tokenizer(template), 2048).render(row)
        return caught.value.problems[0].message

    def test_definitions_are_missed(self):
        assert "no place for the definitions of tools" in self.refused(shapes.CHATML, ROW)
        assert "no place for the definitions" in self.refused(shapes.CHATML, {**talk("u:Q", "a:A"), "tools": TOOLS})

    def test_calls_are_missed(self):
        assert "no place for tool calls and their results" in self.refused(shapes.DEFINITIONS_ONLY, ROW)

    def test_rows_without_tools_are_rendered(self):
        renderer = Renderer(byte_level_tokenizer(shapes.DEFINITIONS_ONLY), 2048)
        rendered = renderer.render_rows([talk("u:Q", "a:A"), {**ROW, "id": "r:2"}])
        assert len(rendered.sequences) == 1
        assert rendered.dropped.places == {"template_refused": ["r:2"]}

    def test_prompt_is_refused_too(self):
        with pytest.raises(TemplateRefusedError, match="no place"):
            Renderer(byte_level_tokenizer(shapes.CHATML), 2048).prompt_ids(ROW)


def test_token_that_ends_calls_stops_generation():
    tokenizer = byte_level_tokenizer(shapes.CALL_TOKEN, ("<|call|>",))
    renderer = Renderer(tokenizer, 2048)
    assert tokenizer.convert_tokens_to_ids("<|call|>") in renderer.stop_token_ids
    (sequence,) = renderer.render_all(ROW)
    assert trained(tokenizer, sequence)[0] == f"{WRITTEN}<|call|>"


def test_special_tokens_spelled_in_definitions_and_results_are_named():
    renderer = Renderer(byte_level_tokenizer(shapes.TOOLS), 2048)
    row = {**ROW, "messages": [*ROW["messages"][:2], result("7<|im_end|>"), *ROW["messages"][3:]]}
    assert renderer.render_rows([row]).spelled.counts == {"<|im_end|>": 1}


def test_question_expects_a_call_as_the_template_writes_it():
    tokenizer = byte_level_tokenizer(shapes.TOOLS)
    row = {**ROW, "messages": ROW["messages"][:2]}
    question = question_from_row(row, tokenizer, Renderer(tokenizer, 2048), 2048)
    assert question is not None
    assert (question.prompt, question.expected) == ("Which shelf has Emma?", WRITTEN)


class TestChatml:
    """The template that is taken where a tokenizer has none."""

    def renderer(self) -> Renderer:
        tokenizer = byte_level_tokenizer(None)
        tokenizer.chat_template = chatml(tokenizer)[0]
        return Renderer(tokenizer, 2048)

    def test_writes_calls_between_tags(self):
        renderer = self.renderer()
        (sequence,) = renderer.render_all(ROW)
        written = '<tool_call>\n{"name": "find_book", "arguments": {"title": "Emma"}}\n</tool_call><|im_end|>'
        assert trained(renderer.tokenizer, sequence) == [written, *ANSWERS]

    def test_definitions_join_the_system_message(self):
        renderer = self.renderer()
        system = {"role": "system", "content": "Be terse."}
        text = renderer.tokenizer.decode(renderer.render({**ROW, "messages": [system, *ROW["messages"]]}).input_ids)
        assert text.startswith("<|im_start|>system\nBe terse.\n\n# Tools")
        assert text.count("Be terse.") == text.count("<|im_start|>system") == 1

    def test_is_plain_chatml_without_tools(self):
        row = talk("s:S", "u:Q", "a:A", "u:Q", "a:B")
        plain = Renderer(byte_level_tokenizer(shapes.CHATML), 2048)
        assert self.renderer().render(row) == plain.render(row)


REAL = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
OPENS_A_THOUGHT = ("nemotron",)
SILENT = ("lfm2", "lfm2_training")


@pytest.mark.parametrize("file", [file for file in REAL if "tools" in file.read_text()], ids=lambda file: file.stem)
def test_templates_of_real_families(file):
    source = file.read_text()
    tokenizer = byte_level_tokenizer(source, tokens_in(source))
    renderer = Renderer(tokenizer, 8192)
    if file.stem.startswith(OPENS_A_THOUGHT) or file.stem in SILENT:
        with pytest.raises(ProblemError, match="chatml"):
            renderer.render(ROW)
        return
    sequences = renderer.render_all(ROW)
    runs = [run for sequence in sequences for run in trained(tokenizer, sequence)]
    assert len(runs) == 3
    assert "Emma" in runs[0]
    assert "Shelf seven." in runs[1]
    assert "Welcome" in runs[2]
    for run in runs:
        assert "Finds a book." not in run
        assert '"shelf": 7' not in run
        assert "?" not in run
    for sequence in sequences:
        last = [token for token, mask in zip(sequence.input_ids, sequence.trained_mask, strict=True) if mask][-1]
        assert last in renderer.stop_token_ids or last == tokenizer.eos_token_id
    prompt = renderer.prompt_ids(ROW)
    assert sequences[-1].input_ids[: len(prompt)] == prompt
