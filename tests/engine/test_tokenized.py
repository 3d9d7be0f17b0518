"""Rows tokenised once: the same sequences as rows rendered one by one, at every length, from the cache too."""

import itertools
import random
import tracemalloc
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from engine.data.bytes_in import ReadingStoppedError
from engine.data.chat_template import TemplateRefusedError
from engine.data.encoding import Encoder, Tokens
from engine.data.pipeline import prepare
from engine.data.progress import WorkWatch
from engine.data.rendered import RenderedRows
from engine.data.rendering import Renderer, UncutRow
from engine.data.rows import Row, Tally
from engine.data.spans import Marked, mark_conversation
from engine.data.token_store import TokenStore, TokenWriter
from engine.data.tokenized import TokenizedRows, tokenize
from engine.models.tokenizers import load_tokenizer
from engine.objectives.sequences import cut_sequences
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine import chat_templates
from tests.engine.chat_templates import (
    CHATML,
    GEMMA,
    LLAMA3,
    MISTRAL,
    THINKING,
    ZEPHYR,
    byte_level_tokenizer,
    sentencepiece_tokenizer,
    tokens_in,
)
from tests.engine.test_rendering import ASSETS, TWO, talk
from tests.engine.test_rendering_tools import REAL
from tests.engine.test_rendering_tools import ROW as CALLED
from tests.engine.tiny_models import tiny_tokenizer

WORDS = [
    "Paris",
    "lies",
    "on",
    "the",
    "Seine",
    ",",
    "and",
    "Rome",
    "is",
    "far",
    "away",
    "from",
    "it",
    "all",
    "12",
    "34",
    "...",
]
LENGTHS = (1, 2, 3, 5, 16, 31, 64, 1 << 30)


def mixed_rows(count: int) -> list[Row]:
    draw = random.Random(7)

    def words(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(0, most)))

    rows: list[Row] = []
    for number in range(count):
        turns = [f"u:{words(20)}", f"a:{words(30)}"] * draw.randint(1, 3)
        row = {"text": words(90)} if number % 3 == 0 else talk(*turns)
        rows.append({**row, "id": f"rows.jsonl:{number + 1}"})
    rows[4] = {**talk("u:Say <|im_end|> twice", "a:<|im_end|>"), "id": "rows.jsonl:5"}
    rows[7] = {"messages": [{"role": "assistant", "content": "I begin."}], "id": "rows.jsonl:8"}
    rows[10] = {"messages": [{"role": "user", "content": "Nobody answers."}], "id": "rows.jsonl:11"}
    return rows


def shapes_of(module: Any) -> dict[str, str]:
    """Return the templates of a module, by name."""
    return {
        name: template
        for name, template in vars(module).items()
        if name.isupper() and isinstance(template, str) and "messages" in template
    }


def facts(rendered: RenderedRows) -> dict[str, Any]:
    return {
        "sequences": list(rendered.sequences),
        "dropped": (rendered.dropped.counts, list(rendered.dropped.counts), rendered.dropped.places),
        "num_cut": rendered.num_cut,
        "spelled": rendered.spelled,
        "num_tokens": rendered.num_tokens,
        "num_trained": rendered.num_trained,
        "learnt": rendered.sequences.num_learnt.tolist(),
        "sentences": rendered.sentences(),
        "problems": rendered.problems(),
    }


@pytest.mark.parametrize("length", LENGTHS)
def test_cut_rows_are_rows_rendered_at_that_length(length: int):
    rows, tokenizer = mixed_rows(60), tiny_tokenizer()
    tokens = tokenize(rows, Renderer(tokenizer, 12))
    assert facts(tokens.cut(length)) == facts(Renderer(tokenizer, length).render_rows(rows))


def test_what_a_length_takes_is_what_rendering_shows():
    rows, tokenizer = mixed_rows(80), tiny_tokenizer()
    chats = [row for row in rows if "messages" in row]
    tokens = tokenize(rows, Renderer(tokenizer, 12))
    whole = [seq for row in chats for seq in Renderer(tokenizer, 1 << 30).render_all(row)]
    for length in (3, 17, 40, 10_000):
        kept = [sum(each.trained_mask[1:length]) for each in whole]
        cut = tokens.cut_at(length)
        assert cut.num_cut == sum(len(each.input_ids) > length for each in whole)
        assert cut.num_answers_cut == sum(
            now < sum(each.trained_mask[1:]) for now, each in zip(kept, whole, strict=True)
        )
        assert cut.num_answers_lost == kept.count(0)
        assert cut.lost_tokens == sum(max(0, len(each.input_ids) - length) for each in whole)
    lengths = [cut.length for cut in tokens.cuts()]
    assert lengths == sorted(lengths)
    assert lengths[-1] == max(tokens.lengths)
    assert tokens.cuts()[-1].lost_tokens == 0
    assert [cut.length for cut in tokens.cuts(33, lengths[-1])] == sorted({33, *lengths})


def test_a_second_launch_asks_neither_template_nor_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows, renderer = mixed_rows(30), Renderer(tiny_tokenizer(), 64)
    first = tokenize(rows, renderer, cache=tmp_path)
    monkeypatch.setattr(Renderer, "uncut", lambda *_: pytest.fail("rendered again"))
    again = tokenize(rows, Renderer(tiny_tokenizer(), 16), cache=tmp_path)
    assert facts(again.cut(20)) == facts(first.cut(20))
    assert facts(tokenize(rows, renderer, cache=tmp_path).cut(64)) == facts(first.cut(64))


@pytest.mark.parametrize("change", ["rows", "prompt", "template", "vocabulary", "special"])
def test_everything_that_decides_ids_makes_another_entry(change: str, tmp_path: Path):
    rows, tokenizer = mixed_rows(12), tiny_tokenizer()
    tokenize(rows, Renderer(tokenizer, 64), cache=tmp_path)
    other = tiny_tokenizer()
    if change == "template":
        other.chat_template = other.chat_template + " "
    if change == "vocabulary":
        other.add_tokens(["Seine"])
    if change == "special":
        other.eos_token = other.convert_ids_to_tokens(5)
    others = rows[:-1] if change == "rows" else rows
    tokenize(others, Renderer(other, 64, "Be terse." if change == "prompt" else None), cache=tmp_path)
    assert len(list((tmp_path / "tokens").iterdir())) == 2


def test_a_stop_leaves_nothing_behind(tmp_path: Path):
    answers = itertools.chain([False, False], itertools.repeat(True))
    watch = WorkWatch(should_stop=lambda: next(answers))
    with pytest.raises(ReadingStoppedError):
        tokenize(mixed_rows(900), Renderer(tiny_tokenizer(), 64), cache=tmp_path, watch=watch)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_no_row_at_all_is_a_problem_and_not_a_fault(tmp_path: Path):
    tokens = tokenize([], Renderer(tiny_tokenizer(), 64), cache=tmp_path)
    assert tokens.cut(64).problems()
    assert [cut.num_cut for cut in tokens.cuts()] == [0]


def made_tokens(folder: Path, num_rows: int) -> TokenizedRows:
    draw = np.random.default_rng(3)
    with TokenWriter(folder / "tokens.arrow") as writer:
        for number, length in enumerate(draw.integers(40, 400, num_rows)):
            tokens = Tokens(draw.integers(3, 900, length).tolist(), [(int(length) // 2, int(length))])
            writer.add(UncutRow({"id": f"r:{number}", "messages": []}, number, [tokens]))
    return TokenizedRows(TokenStore(folder / "tokens.arrow"), {}, Tally())


def test_cutting_and_packing_take_bytes_a_row_and_not_a_token(tmp_path: Path):
    made_tokens(tmp_path, 20_000)
    tracemalloc.start()
    tokens = TokenizedRows(TokenStore(tmp_path / "tokens.arrow"), {}, Tally())
    sequences = cut_sequences(tokens.cut(512), 512, packed=True)
    rows = sequences.dataset()
    read = sum(len(rows[index]["input_ids"]) for index in range(0, len(rows), 50))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    num_tokens = int(tokens.lengths.sum())
    assert num_tokens > 4_000_000
    assert read == sequences.lengths[::50].sum()
    # Lists of all tokens and labels would take sixteen bytes a token and more.
    assert peak < 3 * num_tokens
    assert peak < 600 * len(tokens.lengths)


def test_packed_rows_carry_the_tokens_of_the_rows(tmp_path: Path):
    rendered = made_tokens(tmp_path, 300).cut(256)
    packed, single = (cut_sequences(rendered, 256, packed=packed) for packed in (True, False))
    assert packed.lengths.max() <= 256
    assert packed.lengths.sum() == single.lengths.sum()
    assert packed.num_trained.sum() == single.num_trained.sum() == rendered.sequences.num_learnt.sum()
    pieces = {each.row_id: each for row in range(len(packed)) for each in packed.segments[row]}
    assert pieces == {each.row_id: each for row in range(len(single)) for each in single.segments[row]}
    assert [sum(each.num_trained for each in packed.segments[row]) for row in range(len(packed))] == list(
        packed.num_trained
    )
    assert packed.row_ids([0]) == [each.row_id for each in packed.segments[0]]


def test_a_row_of_several_answers_is_kept_answer_by_answer():
    tokens = tokenize([TWO], Renderer(tiny_tokenizer(), 64))
    assert tokens.num_sequences == len(tokens.cut(64).sequences) >= 1


def reference(tokenizer: Any, marked: Marked) -> tuple[list[int], list[tuple[int, int]]]:
    """Return ids and spans in tokens by the offsets of single calls of the tokenizer, for one that cuts cleanly."""
    at = marked.spans[-1][0]
    front, rest = (
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for text in (marked.text[:at], marked.text[at:])
    )
    offsets = [*front["offset_mapping"], *((at + start, at + end) for start, end in rest["offset_mapping"])]
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    runs = [(bisect_right(ends, start), bisect_left(starts, end)) for start, end in marked.spans]
    return [*front["input_ids"], *rest["input_ids"]], runs


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA, ZEPHYR, MISTRAL])
def test_many_texts_at_once_give_the_tokens_of_single_calls(template: str):
    tokenizer = byte_level_tokenizer(template)
    renderer = Renderer(tokenizer, 1 << 30)
    odd = ["Grüße aus 東京 \U0001f1e9\U0001f1ea", "  two spaces  ", "\n\nlines\n", "e\u0301\u200d", "", "x" * 70]
    rows = [talk(f"u:{left}", f"a:{right}", f"u:{right}", f"a:{left}") for left in odd for right in odd]
    marked = [each for row in rows for each in mark_conversation(renderer.template, row["messages"])]
    encoder = Encoder(tokenizer)
    assert encoder._located(marked) == [reference(tokenizer, each) for each in marked]


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
@pytest.mark.parametrize("template", [CHATML, LLAMA3, MISTRAL, THINKING])
def test_rows_in_company_are_rows_alone(make: Any, template: str):
    rows = [row for row in mixed_rows(40) if "text" in row or row["messages"][-1]["role"] == "assistant"]
    tokenizer = make(template)
    together = Renderer(tokenizer, 64).render_rows(rows).sequences
    # A fresh renderer for each row has seen no other row's end of turn.
    alone = [each for row in rows if not refused(tokenizer, row) for each in Renderer(tokenizer, 64).render_all(row)]
    assert list(together) == [each for each in alone if each.teaches]


REAL_ROWS = (
    "instruct/gsm8k_train_3000.jsonl",
    "chat/sgd_messages_1000.jsonl",
    "chat/glaive_toolcall_en_demo.json",
    "multilingual/glaive_toolcall_zh_demo.json",
)
ODD_ANSWERS = [
    "Six", "", " six ", "six\n", "\n\nsix", "six  \n ", "<|im_end|>", "six<|im_end|>\n", "six <|im_end|", "six<",
    "six </s>", "six<|eot_id|>", "[/INST] six", "\u00e9\u0301\u200d", "\u6771\u4eac \U0001f1e9\U0001f1ea", "x" * 90,
    "<think>\nHm.\n</think>\n\nSix", "\ue0f8", "<|end|>", "six <|end|>  ",
]  # fmt: skip


def with_end(**how: bool) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose end-of-turn token is added in an unusual way."""
    tokenizer = byte_level_tokenizer(CHATML.replace("<|im_end|>", "<|end|>"))
    tokenizer.add_tokens([AddedToken("<|end|>", **{"special": True, "normalized": False, **how})])
    return tokenizer


def overlapping_end() -> PreTrainedTokenizerFast:
    """Return a tokenizer that also knows a token that begins in an answer and reaches into its end."""
    return byte_level_tokenizer(CHATML, (" <|im_end|>", "x<|im_end|>\n", "<<|im_end"))


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    **{
        f"{make.__name__} {name}": partial(make, template)
        for make in (byte_level_tokenizer, sentencepiece_tokenizer)
        for name, template in shapes_of(chat_templates).items()
    },
    "end takes white space in front": partial(with_end, lstrip=True),
    "end takes white space behind": partial(with_end, rstrip=True),
    "end is a word of its own": partial(with_end, single_word=True),
    "end is normalised": partial(with_end, normalized=True),
    "end is no special token": partial(with_end, special=False),
    "overlapping": overlapping_end,
}


def odd_marked(renderer: Renderer) -> list[Marked]:
    rows = [talk("u:What is 2+2?", f"a:{answer}") for answer in ODD_ANSWERS]
    rows += [talk("u:Q", f"a:{answer}", "u:And now?", f"a:{answer}") for answer in ODD_ANSWERS]
    rows.append(CALLED)
    return marked_of(renderer, rows)


def marked_of(renderer: Renderer, rows: Iterable[Row]) -> list[Marked]:
    """Return the marked texts of rows, without those that the template refuses."""
    marked: list[Marked] = []
    for row in rows:
        with suppress(TemplateRefusedError):
            marked += mark_conversation(renderer.template, row["messages"], row.get("tools"))
    return marked


def with_offsets(tokenizer: PreTrainedTokenizerFast, marked: list[Marked]) -> list[Tokens]:
    """Return marked texts as tokens, every answer found by where its tokens lie in the text."""
    encoder = Encoder(tokenizer)
    located = encoder._located(marked)
    return [encoder._closed(each, ids, runs) for each, (ids, runs) in zip(marked, located, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_without_offsets_are_the_tokens_with_them(kind: str):
    tokenizer = KINDS[kind]()
    marked = odd_marked(Renderer(tokenizer, 1 << 30))
    assert len(marked) > len(ODD_ANSWERS)
    assert Encoder(tokenizer).conversations(marked) == with_offsets(tokenizer, marked)


def test_tokens_without_offsets_in_templates_of_real_families():
    rendered: set[str] = set()
    for file in REAL:
        source = file.read_text()
        tokenizer = byte_level_tokenizer(source, tokens_in(source))
        # Some want pictures, or open a thought that no answer here has.
        with suppress(ProblemError):
            marked = odd_marked(Renderer(tokenizer, 1 << 30))
            assert Encoder(tokenizer).conversations(marked) == with_offsets(tokenizer, marked), file.stem
            rendered |= {file.stem} if marked else set()
    assert len(rendered) > len(REAL) // 2
    assert {"qwen3", "llama3", "gemma"} <= rendered


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")
@pytest.mark.parametrize("template", ["own", CHATML, chat_templates.TOOLS])
@pytest.mark.parametrize("file", REAL_ROWS)
def test_tokens_without_offsets_of_real_rows_with_a_real_tokenizer(file: str, template: str):
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(ASSETS / file), "max_rows": 60}}
    recipe = Recipe.model_validate(tree)
    tokenizer = load_tokenizer(ASSETS / "models/tinystories-656k", recipe).tokenizer
    if template != "own":
        tokenizer.chat_template = template
        tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    rows = list(prepare(recipe).train_rows)
    marked = marked_of(Renderer(tokenizer, 1 << 30), rows)
    assert Encoder(tokenizer).conversations(marked) == with_offsets(tokenizer, marked)
    together = Renderer(tokenizer, 64).render_rows(rows).sequences
    alone = [each for row in rows if not refused(tokenizer, row) for each in Renderer(tokenizer, 64).render_all(row)]
    assert list(together) == [each for each in alone if each.teaches]
    assert list(tokenize(rows, Renderer(tokenizer, 12)).cut(64).sequences) == list(together)


@pytest.mark.parametrize("template", [CHATML, LLAMA3, GEMMA, ZEPHYR, MISTRAL, THINKING])
def test_nobody_asks_for_offsets_of_common_templates(template: str, monkeypatch: pytest.MonkeyPatch):
    renderer = Renderer(byte_level_tokenizer(template), 64)
    marked = mark_conversation(renderer.template, talk("u:What is 2+2?", "a:Six")["messages"])
    monkeypatch.setattr(Encoder, "_located", lambda _, rest: [pytest.fail("located") for _ in rest])
    (tokens,) = Encoder(renderer.tokenizer).conversations(marked)
    (begin, after) = tokens.runs[0]
    assert "Six" in renderer.tokenizer.decode(tokens.ids[begin:after])


def test_a_template_that_ends_every_answer_otherwise_is_not_remembered_for_ever():
    asks_again = CHATML.replace("{% endfor %}", "{{ messages[0]['content'] }}{% endfor %}")
    renderer = Renderer(byte_level_tokenizer(asks_again), 64)
    rows = [talk(f"u:Q{number}", "a:Six") for number in range(200)]
    marked = [each for row in rows for each in mark_conversation(renderer.template, row["messages"])]
    encoder = Encoder(renderer.tokenizer)
    tokens = encoder.conversations(marked)
    assert len(encoder._ends) < 100
    assert len(renderer.template.ends) < 100
    assert tokens == [each for one in marked for each in Encoder(renderer.tokenizer).conversations([one])]


def refused(tokenizer: Any, row: Row) -> bool:
    (uncut,) = Renderer(tokenizer, 64).uncut([row])
    return bool(uncut.refused)


def test_a_class_of_its_own_is_called_itself():
    class Upper(PreTrainedTokenizerFast):
        def _encode_plus(self, text: Any, *arguments: Any, **keywords: Any) -> Any:
            upper = text.upper() if isinstance(text, str) else [each.upper() for each in text]
            return super()._encode_plus(upper, *arguments, **keywords)

    plain = tiny_tokenizer()
    own = Upper(tokenizer_object=plain.backend_tokenizer, eos_token=plain.eos_token, chat_template=plain.chat_template)
    (shout,), (whisper,) = (Encoder(each).texts(["paris"]) for each in (own, plain))
    assert own.decode(shout.ids).startswith("PARIS")
    assert plain.decode(whisper.ids).startswith("paris")
