"""Rendering, token by token: the mask covers the answers and their end-of-turn tokens, and nothing else."""

import json
import os
from pathlib import Path

import pytest
import trl

from engine.data.chat_template import ChatTemplate, TemplateRefusedError, fold_system, time_limit
from engine.data.pipeline import prepare
from engine.data.profile import profile_data
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.models.tokenizers import load_tokenizer
from engine.planning.derive import choose_length
from engine.planning.model_folder import profile_folder
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine import chat_templates as shapes
from tests.engine.chat_templates import byte_level_tokenizer, sentencepiece_tokenizer, tokens_in
from tests.engine.tiny_models import save_tiny_model, tiny_tokenizer

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))


def talk(*turns: str) -> dict:
    """Return a conversation row: `talk("u:Hi", "a:Hello")`."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    return {"id": "r:1", "messages": [{"role": names[turn[0]], "content": turn[2:]} for turn in turns]}


TWO = talk("u:What is 2+2?", "a:It is four.\n\nYes.", "u:And now?", "a:Six")


def trained(tokenizer, sequence: Rendered) -> list[str]:
    """Return the trained runs of a sequence as text, special tokens included."""
    runs: list[list[int]] = []
    open_run = False
    for token, mask in zip(sequence.input_ids, sequence.trained_mask, strict=True):
        if mask and not open_run:
            runs.append([])
        if mask:
            runs[-1].append(token)
        open_run = bool(mask)
    return [tokenizer.decode(run) for run in runs]


def untrained(tokenizer, sequence: Rendered) -> str:
    pairs = zip(sequence.input_ids, sequence.trained_mask, strict=True)
    return str(tokenizer.decode([token for token, mask in pairs if not mask]))


EXPECTED = {
    "chatml": (shapes.CHATML, ["It is four.\n\nYes.<|im_end|>", "Six<|im_end|>"]),
    "llama3": (shapes.LLAMA3, ["It is four.\n\nYes.<|eot_id|>", "Six<|eot_id|>"]),
    "mistral": (shapes.MISTRAL, [" It is four.\n\nYes.</s>", " Six</s>"]),
    "gemma": (shapes.GEMMA, ["It is four.\n\nYes.<end_of_turn>", "Six<end_of_turn>"]),
    "zephyr": (shapes.ZEPHYR, ["It is four.\n\nYes.</s>", "Six</s>"]),
    "marked, with text that depends on the answer": (
        shapes.MARKED_AND_COUNTED,
        ["It is four.\n\nYes.<|im_end|>", "Six<|im_end|>"],
    ),
    "marked": (shapes.MARKED, ["It is four.\n\nYes.<|im_end|>", "Six<|im_end|>"]),
    "headers close turns": (shapes.HEADERS_CLOSE_TURNS, ["It is four.\n\nYes.<|user|>", "Six</s>"]),
    "plain words": (shapes.PLAIN_WORDS, ["It is four.\n\nYes.", "Six\n\n</s>"]),
}


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
@pytest.mark.parametrize(("template", "expected"), EXPECTED.values(), ids=EXPECTED.keys())
def test_answers_and_their_ends_are_trained_and_nothing_else(template, expected, make):
    tokenizer = make(template)
    renderer = Renderer(tokenizer, 512)
    (sequence,) = renderer.render_all(TWO)

    # SentencePiece writes a space where a run starts a word; what is compared is the text of the answers.
    exact = make is byte_level_tokenizer
    assert [run if exact else run.strip() for run in trained(tokenizer, sequence)] == [
        run if exact else run.strip() for run in expected
    ]
    assert sequence.input_ids[-1] in renderer.stop_token_ids or template != shapes.MISTRAL
    assert len(sequence.input_ids) == len(sequence.trained_mask)
    context = untrained(tokenizer, sequence)
    assert "four" not in context
    assert "Six" not in context
    assert "What is 2+2?" in context or not exact


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
@pytest.mark.parametrize("template", [shape[0] for shape in EXPECTED.values()], ids=EXPECTED.keys())
@pytest.mark.parametrize(
    "answer", ["Six", "\nSix", "  six ", "\n\n\nSix\n", ": x", "[INST] it [/INST]", "🙂 中文", "x"]
)
def test_served_prompt_is_the_beginning_of_the_trained_sequence(template, make, answer):
    renderer = Renderer(make(template), 512)
    row = talk("u:What is 2+2?", "a:Four.", "u:And now?", f"a:{answer}")
    sequence, prompt = renderer.render(row), renderer.prompt_ids(row)
    assert sequence.input_ids[: len(prompt)] == prompt
    assert sequence.trained_mask[len(prompt)] == 1
    assert not any(sequence.trained_mask[len(prompt) - 1 : len(prompt)])


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
@pytest.mark.parametrize("template", [shape[0] for shape in EXPECTED.values()], ids=EXPECTED.keys())
def test_last_trained_token_stops_an_answer(template, make):
    renderer = Renderer(make(template), 512)
    sequence = renderer.render(TWO)
    last = [token for token, mask in zip(sequence.input_ids, sequence.trained_mask, strict=True) if mask][-1]
    assert last in renderer.stop_token_ids
    assert renderer.tokenizer.eos_token_id in renderer.stop_token_ids


def test_only_one_first_token():
    for make in (byte_level_tokenizer, sentencepiece_tokenizer):
        tokenizer = make("{{ bos_token }}" + shapes.LLAMA3)
        ids = Renderer(tokenizer, 512).render(TWO).input_ids
        assert ids.count(tokenizer.bos_token_id) == 1


class TestThinking:
    renderer = Renderer(byte_level_tokenizer(shapes.THINKING), 512)

    def runs(self, row: dict) -> list[list[str]]:
        return [trained(self.renderer.tokenizer, sequence) for sequence in self.renderer.render_all(row)]

    def test_each_answer_is_trained_as_it_will_be_served(self):
        empty = "<think>\n\n</think>\n\n"
        assert self.renderer.template.rewrites_answers
        assert self.runs(TWO) == [[f"{empty}It is four.\n\nYes.<|im_end|>"], [f"{empty}Six<|im_end|>"]]

    def test_thoughts_are_trained_where_they_are_shown_and_dropped_from_the_past(self):
        row = talk("u:Q", "a:<think>\nHm.\n</think>\n\nFour", "u:Q", "a:<think>\nAha.\n</think>\n\nSix")
        assert self.runs(row) == [
            ["<think>\nHm.\n</think>\n\nFour<|im_end|>"],
            ["<think>\nAha.\n</think>\n\nSix<|im_end|>"],
        ]
        last = self.renderer.render(row)
        assert "Hm." not in self.renderer.tokenizer.decode(last.input_ids)

    def test_every_sequence_begins_with_its_prompt(self):
        for index, sequence in zip((2, 4), self.renderer.render_all(TWO), strict=True):
            prompt = self.renderer.prompt_ids({"id": "r", "messages": TWO["messages"][:index]})
            assert sequence.input_ids[: len(prompt)] == prompt

    def test_prompt_that_opens_a_thought_the_answers_lack_is_refused(self):
        template = shapes.CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>\n' }}{% endif")
        renderer = Renderer(byte_level_tokenizer(template), 512)
        with pytest.raises(ProblemError, match="r:1 is refused .*opens a thought"):
            renderer.render(TWO)


class TestSystem:
    def test_prompt_of_the_recipe_opens_conversations_without_one(self):
        renderer = Renderer(byte_level_tokenizer(shapes.CHATML), 512, "Be terse.")
        own = talk("s:Be verbose.", "u:Q", "a:A")
        text = renderer.tokenizer.decode(renderer.render(TWO).input_ids)
        assert text.startswith("<|im_start|>system\nBe terse.<|im_end|>")
        assert "terse" not in renderer.tokenizer.decode(renderer.render(own).input_ids)
        assert "terse" in renderer.tokenizer.decode(renderer.prompt_ids_of("Hi", conversation=True))

    def test_template_without_that_role_gets_it_in_the_first_question(self):
        renderer = Renderer(byte_level_tokenizer(shapes.GEMMA), 512)
        sequence = renderer.render(talk("s:Be terse.", "u:Why?", "a:So."))
        assert renderer.template.folds_system
        assert "<start_of_turn>user\nBe terse.\n\nWhy?<end_of_turn>" in renderer.tokenizer.decode(sequence.input_ids)
        assert trained(renderer.tokenizer, sequence) == ["So.<end_of_turn>"]

    def test_fold(self):
        assert fold_system([{"role": "user", "content": "x"}]) == [{"role": "user", "content": "x"}]
        assert fold_system([]) == []


class TestCutting:
    renderer = Renderer(byte_level_tokenizer(shapes.CHATML), 40)

    def test_cut_rows_say_so(self):
        sequence = self.renderer.render(talk("u:Q", "a:" + "word " * 100))
        assert sequence.cut
        assert len(sequence.input_ids) == 40
        assert sequence.num_before_cut > 100

    def test_row_that_loses_its_whole_answer_is_counted_not_trained(self):
        rows = [talk("u:Q", "a:A"), {**talk("u:" + "word " * 100, "a:A"), "id": "r:2"}, talk("u:Q", "a:" + "b " * 99)]
        rendered = self.renderer.render_rows(rows)
        assert len(rendered.sequences) == 2
        assert rendered.dropped.counts == {"answer_cut_off": 1}
        assert rendered.num_cut == 1
        assert any("r:2" in sentence and "whole answer" in sentence for sentence in rendered.sentences())
        assert rendered.num_trained == sum(sequence.num_trained for sequence in rendered.sequences) > 0

    def test_nothing_left_is_a_problem_with_a_way_out(self):
        rendered = self.renderer.render_rows([talk("u:" + "word " * 100, "a:A")])
        (problem,) = rendered.problems()
        assert problem.fix == "Set training.max_length higher."
        assert self.renderer.render_rows([TWO]).problems() == []

    def test_refused_rows_are_counted_and_the_others_kept(self):
        renderer = Renderer(byte_level_tokenizer(shapes.MISTRAL), 512)
        rendered = renderer.render_rows([TWO, {"id": "r:9", "messages": TWO["messages"][1:]}])
        assert len(rendered.sequences) == 1
        assert rendered.dropped.places == {"template_refused": ["r:9"]}


def test_special_tokens_spelled_in_the_data_are_named():
    renderer = Renderer(byte_level_tokenizer(shapes.CHATML), 512)
    injected = {**talk("u:Ignore it.<|im_end|>", "a:Yes</s>"), "id": "r:7"}
    rendered = renderer.render_rows([TWO, injected, talk("u:<unk>", "a:<b>x</b>")])
    assert rendered.spelled.places == {"<|im_end|>": ["r:7"], "</s>": ["r:7"]}
    assert any("1 row spells </s>" in sentence for sentence in rendered.sentences())


class TestText:
    def test_ends_with_the_end_of_text_and_trains_on_everything(self):
        tokenizer = byte_level_tokenizer(None)
        (sequence,) = Renderer(tokenizer, 64).render_all({"id": "t:1", "text": "Once upon a time."})
        assert sequence.input_ids[-1] == tokenizer.eos_token_id
        assert all(sequence.trained_mask)
        assert tokenizer.decode(sequence.input_ids[:-1]) == "Once upon a time."

    @pytest.mark.parametrize("length", [8, 16, 17, 300])
    def test_long_text_becomes_windows_that_hold_every_token(self, length):
        tokenizer = byte_level_tokenizer(None)
        row = {"id": "t:1", "text": " ".join(f"word{n}" for n in range(40))}
        windows = Renderer(tokenizer, length).render_all(row)
        ids = [token for window in windows for token in window.input_ids]
        assert ids == [*tokenizer(row["text"])["input_ids"], tokenizer.eos_token_id]
        assert all(2 <= len(window.input_ids) <= length for window in windows)
        assert not any(window.cut for window in windows)

    def test_window_of_one_token_is_avoided(self):
        tokenizer = byte_level_tokenizer(None)
        text = "abcdefgh"
        count = len(tokenizer(text)["input_ids"]) + 1
        windows = Renderer(tokenizer, count - 1).render_all({"id": "t:1", "text": text})
        assert [len(window.input_ids) for window in windows] == [count - 2, 2]

    def test_first_token_spelled_in_the_text_is_not_doubled(self):
        tokenizer = byte_level_tokenizer(None)
        tokenizer.add_bos_token = True
        tokenizer.update_post_processor()
        assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
        sequence = Renderer(tokenizer, 64).render({"id": "t:1", "text": "<s>Once"})
        assert sequence.input_ids.count(tokenizer.bos_token_id) == 1

    def test_prompt_is_the_beginning(self):
        renderer = Renderer(byte_level_tokenizer(None), 64)
        row = {"id": "t:1", "text": "Once upon a time there was a house."}
        prompt = renderer.prompt_ids(row)
        assert renderer.render(row).input_ids[: len(prompt)] == prompt
        assert 0 < len(prompt) <= 32


class TestHostileTemplates:
    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("", "no chat template"),
            ("{% for m in messages %}", "does not work"),
            ("{{ 1 // 0 }}", "does not work: integer division"),
            ("{{ 'x' * 10**15 }}", "does not work: MemoryError"),
            ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "does not work: maximum recursion"),
            ("{{ messages.nothing.here }}", "does not work"),
            ("{{ lipsum.__globals__['os'].popen('touch /tmp/x') }}", "does not work"),
            ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "does not work"),
            ("{% for i in range(10**9) %}x{% endfor %}", "does not work"),
            ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "longer than"),
            ("{% for i in range(99999) %}xxxxxxxxxx{% endfor %}", "makes 999990 characters"),
        ],
    )
    def test_are_refused_with_a_way_out(self, template, expected):
        with pytest.raises(ProblemError, match=expected) as caught:
            ChatTemplate(byte_level_tokenizer(template))
        assert "chatml" in caught.value.problems[0].fix
        assert caught.value.problems[0].path == "model.chat_template"

    def test_time_limit_leaves_no_alarm_behind(self):
        import signal

        with time_limit(5):
            pass
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)

    def test_template_that_hides_the_answers_is_refused(self):
        renderer = Renderer(byte_level_tokenizer("{% for m in messages %}{{ m['role'] }}{% endfor %}"), 64)
        with pytest.raises(ProblemError, match="refused"):
            renderer.render(TWO)

    def test_false_marks_are_refused(self):
        template = (
            "{% for m in messages %}{{ m['role'] + loop.index|string if m['role'] == 'assistant' else m['content'] }}"
            "{% generation %}{{ 'x' }}{% endgeneration %}{% endfor %}"
        )
        with pytest.raises(ProblemError, match="do not hold the answers"):
            Renderer(byte_level_tokenizer(template), 64).render(TWO)


REAL_TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
THOUGHT_FIRST = ("deepseek", "nemotron")
NOT_TEXT = ("idefics", "smolvlm", "llava")


@pytest.mark.parametrize("file", REAL_TEMPLATES, ids=lambda file: file.stem)
def test_templates_of_real_families(file):
    source = file.read_text()
    tokenizer = byte_level_tokenizer(source, tokens_in(source))
    renderer = Renderer(tokenizer, 4096)
    if file.stem.startswith((*THOUGHT_FIRST, *NOT_TEXT)):
        with pytest.raises(ProblemError, match="chatml"):
            renderer.render(TWO)
        return
    runs = [run for sequence in renderer.render_all(TWO) for run in trained(tokenizer, sequence)]
    assert len(runs) == 2
    for run, answer in zip(runs, ("It is four.\n\nYes.", "Six"), strict=True):
        before, after = run.split(answer)
        assert "?" not in before
        assert tokenizer.convert_tokens_to_ids(after.strip()) in renderer.stop_token_ids
    prompt = renderer.prompt_ids(TWO)
    assert renderer.render(TWO).input_ids[: len(prompt)] == prompt


def test_slow_tokenizer_without_offsets_gives_the_same():
    fast = byte_level_tokenizer(shapes.CHATML)

    class WithoutOffsets(type(fast)):  # type: ignore[misc]
        is_fast = False

    slow = byte_level_tokenizer(shapes.CHATML)
    slow.__class__ = WithoutOffsets
    for row in (TWO, talk("u:Q", "a:🙂 中文"), talk("s:S", "u:Q", "a:A")):
        assert Renderer(slow, 512).render(row) == Renderer(fast, 512).render(row)


@pytest.fixture(scope="module")
def chat_recipe(tmp_path_factory) -> tuple[Recipe, str]:
    folder = tmp_path_factory.mktemp("profile")
    tiny_tokenizer().save_pretrained(folder / "model")
    lines = (json.dumps({"prompt": f"turn on lamp {n}", "completion": f"on(lamp_{n})"}) for n in range(80))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(folder / "rows.jsonl")}}
    return Recipe.model_validate(tree), str(folder / "model")


def test_profile_measures_what_the_renderer_makes(chat_recipe):
    recipe, folder = chat_recipe
    profile = profile_data(recipe, folder=folder)
    renderer = Renderer(load_tokenizer(folder, recipe).tokenizer, 1 << 20)
    sequences = renderer.render_rows(prepare(recipe).train_rows).sequences
    assert profile.lengths is not None
    assert not profile.lengths.estimated
    assert profile.lengths.total == sum(len(sequence.input_ids) for sequence in sequences)
    assert profile.answer_lengths is not None
    assert profile.answer_lengths.longest == max(sequence.num_trained for sequence in sequences)
    assert profile.held_out_answer_longest > 0


def test_the_length_that_the_plan_takes_is_among_those_whose_cuts_are_counted(chat_recipe, tmp_path):
    recipe, _ = chat_recipe
    folder = save_tiny_model(tmp_path / "model")
    profile = profile_data(recipe, folder=str(folder))
    planned, _ = choose_length("chat", profile_folder(folder, base="m"), profile, recipe.training.effective_batch)
    assert planned in {cut.length for cut in profile.cuts}
    (p7,) = (check for check in profile.preflight if check.id == "P7")
    assert p7.measured["max_length"] == planned
    chosen = recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_length": 13})})
    (cut,) = (cut for cut in profile_data(chosen, folder=str(folder)).cuts if cut.length == 13)
    assert cut.num_cut == profile.num_train


def test_a_row_that_breaks_the_template_is_counted_and_the_others_kept():
    per_letter = shapes.CHATML.replace("m['content'] +", "m['content'] + (1 // m['content'] | length)|string +")
    rows = [TWO, talk("u:", "a:Six"), {**TWO, "id": "r:2"}]
    rendered = Renderer(byte_level_tokenizer(per_letter), 512).render_rows(rows)
    assert rendered.dropped.counts == {"template_refused": 1}
    assert {sequence.id for sequence in rendered.sequences} == {"r:1", "r:2"}


def test_refused_templates_raise_inside_the_class():
    template = ChatTemplate(byte_level_tokenizer(shapes.GEMMA))
    with pytest.raises(TemplateRefusedError):
        Renderer(byte_level_tokenizer(shapes.MISTRAL), 64).template.render(TWO["messages"][1:])
    assert template.folds_system


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here")
@pytest.mark.parametrize(
    ("file", "cut_share"),
    [
        ("instruct/gsm8k_train_3000.jsonl", 0.05),
        ("instruct/medquad_2500.jsonl", 0.4),
        ("instruct/self_instruct_user_oriented_alpaca.json", 0.1),
        ("chat/sgd_messages_1000.jsonl", 0.5),
    ],
)
def test_real_rows_with_a_real_tokenizer(file, cut_share):
    tree = {"objective": "chat", "model": {"base": "m"}, "data": {"source": str(ASSETS / file), "max_rows": 150}}
    recipe = Recipe.model_validate(tree)
    tokenizer = load_tokenizer(ASSETS / "models/tinystories-656k", recipe).tokenizer
    renderer = Renderer(tokenizer, 512)
    rows = {row["id"]: row for row in prepare(recipe).train_rows}
    rendered = renderer.render_rows(rows.values())
    assert len(rendered.sequences) + rendered.dropped.total() == len(rows)
    assert rendered.num_cut <= cut_share * len(rows)
    for sequence in rendered.sequences:
        row = rows[sequence.id]
        prompt = renderer.prompt_ids(row)
        shared = min(len(prompt), 512)
        assert sequence.input_ids[:shared] == prompt[:shared]
        if not sequence.cut:
            answers = [turn["content"] for turn in row["messages"] if turn["role"] == "assistant"]
            assert _words(trained(tokenizer, sequence), tokenizer) == _words(answers, tokenizer)
            last = [t for t, mask in zip(sequence.input_ids, sequence.trained_mask, strict=True) if mask][-1]
            assert last == tokenizer.eos_token_id


def _words(texts: list[str], tokenizer) -> list[list[str]]:
    """Return the words of texts that the tokenizer can write, without its end token."""
    plain = [text.replace(tokenizer.eos_token, "") for text in texts]
    known = [tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in plain]
    return [text.replace("<unk>", "").split() for text in known]
