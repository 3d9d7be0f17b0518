"""The few-shot baseline: which rows it shows, what the model then sees, and what a run says of it."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from engine.data.rendering import Renderer
from engine.evaluation.comparison import compare_few_shot
from engine.evaluation.evaluate import measure
from engine.evaluation.few_shot import FewShot, choose_examples
from engine.evaluation.prompts import question_from_row
from engine.evaluation.report import write_report
from engine.training.few_shot import measure_few_shot
from engine.training.run import evaluate
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, made_recipe
from tests.engine.tiny_models import CHATML, command_rows, tiny_llama, tiny_tokenizer

REWRITING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split(')')[0] }}"
    "{% else %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

MEASURED = {"metrics": ["perplexity", "exact_match", "rouge"], "max_rows": 4, "generate_rows": 4, "max_new_tokens": 8}


def row(*texts, name="made:1", system=None):
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return {"id": name, "messages": [*([{"role": "system", "content": system}] if system else []), *turns]}


def few_shot(examples, *, template=CHATML, context=256, max_length=64, max_new_tokens=8, **settings):
    tokenizer = tiny_tokenizer(chat_template=template)
    renderer = Renderer(tokenizer, max_length)
    return FewShot(tokenizer, renderer, examples, context=context, max_new_tokens=max_new_tokens, **settings)


def decoded(shots, ids):
    return shots.tokenizer.decode(ids)


def trained_text(shots, token_row):
    pairs = zip(token_row.input_ids, token_row.trained_mask, strict=True)
    return decoded(shots, [token for token, trained in pairs if trained])


# --- choosing --------------------------------------------------------------------------------------------------------


def test_examples_are_training_rows_that_no_held_out_row_asks():
    train, held_out = command_rows(60), command_rows(8)
    for seed in range(20):
        chosen = choose_examples(train, held_out, 5, seed)
        assert len(chosen) == 5
        questions = {tuple(turn["content"] for turn in one["messages"][:-1]) for one in chosen}
        assert len(questions) == 5
        assert not questions & {tuple(turn["content"] for turn in one["messages"][:-1]) for one in held_out}
        assert all(one in train for one in chosen)


def test_the_seed_decides_and_nothing_else():
    train = command_rows(60)
    assert choose_examples(train, [], 3, 1) == choose_examples(train[::-1], [], 3, 1)
    assert len({choose_examples(train, [], 1, seed)[0]["id"] for seed in range(12)}) > 1


def test_short_rows_and_other_answers_come_first():
    train = [row(f"q{number} " + "long " * (10 * (number >= 6)), "yes") for number in range(12)]
    train.append(row("q", "no"))
    chosen = choose_examples(train, [], 2, 3)
    assert {one["messages"][1]["content"] for one in chosen} == {"yes", "no"}
    assert all("long" not in one["messages"][0]["content"] for one in choose_examples(train, [], 6, 3))
    answers = [row(f"q{number}", f"a{number} " + "long " * (10 * (number % 2))) for number in range(12)]
    assert all("long" not in one["messages"][1]["content"] for one in choose_examples(answers, [], 6, 3))


def test_rows_pass_by_while_examples_are_chosen():
    held, most = [], []

    class Held(dict):
        def __init__(self, *values):
            super().__init__(*values)
            held.append(1)
            most.append(sum(held))

        def __del__(self):
            held.append(-1)

    class Passing(Sequence):
        def __len__(self):
            return 500

        def __getitem__(self, place):
            if place >= len(self):
                raise IndexError
            return Held(row(f"question {place}", f"answer {place}", name=f"made:{place}"))

    assert len(choose_examples(Passing(), [], 3, 1)) == 3
    assert max(most) <= 6


def test_nothing_is_chosen_from_plain_text_or_nothing():
    assert choose_examples([{"id": "a", "text": "the red lamp"}], [], 3, 1) == []
    assert choose_examples([], command_rows(2), 3, 1) == []


# --- what the model sees ---------------------------------------------------------------------------------------------


def test_examples_are_turns_in_front_of_the_question_and_only_the_own_answer_counts():
    shots = few_shot([row("turn on the red lamp", "on(red_lamp)", system="Other.")])
    asked = row("check the blue fan", "state(blue_fan)", system="Be short.")
    (token_row,) = shots.token_rows([asked])
    turns = [("system", "Be short."), ("user", "turn on the red lamp"), ("assistant", "on(red_lamp)"),
             ("user", "check the blue fan")]  # fmt: skip
    prompt = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"
    assert decoded(shots, token_row.input_ids) == f"{prompt}state(blue_fan)<|im_end|>\n"
    assert trained_text(shots, token_row) == "state(blue_fan)<|im_end|>"
    question = question_from_row(asked, shots.tokenizer, shots.renderer, 64)
    assert decoded(shots, shots.ask(asked, question).input_ids) == prompt


@pytest.mark.parametrize("template", [CHATML, REWRITING])
def test_the_same_tokens_are_judged_as_without_examples(template):
    shots = few_shot(command_rows(40)[30:33], template=template)
    rows = [row("a", "on(red_lamp)", "b", "off(red_lamp)", name="made:9"), *command_rows(4)]
    plain = [sequence for sequence in shots.renderer.render_rows(rows).sequences if sequence.teaches]
    prompted = shots.token_rows(rows)
    assert [trained_text(shots, one) for one in prompted] == [trained_text(shots, one) for one in plain]
    assert all(len(one.input_ids) > len(other.input_ids) for one, other in zip(prompted, plain, strict=True))


def test_what_training_cuts_off_is_not_judged_with_examples_either():
    shots = few_shot(command_rows(2), max_length=24)
    long_row = row("check the blue fan", "state(blue_fan) " * 12)
    (plain,) = shots.renderer.render_rows([long_row]).sequences
    (prompted,) = shots.token_rows([long_row])
    assert plain.cut
    assert sum(prompted.trained_mask) == plain.num_trained


def test_fewer_examples_are_shown_where_the_context_ends():
    shots = few_shot(command_rows(40)[20:23], context=140, max_length=140)
    short, long_row = row("check", "ok"), row("check the blue fan " * 20, "ok", name="made:2")
    for one in (short, long_row):
        (token_row,) = shots.token_rows([one])
        assert len(token_row.input_ids) <= 140
        question = question_from_row(one, shots.tokenizer, shots.renderer, 139)
        assert len(shots.ask(one, question).input_ids) + shots.max_new_tokens <= 140
    assert shots.shortened == {"made:2"}
    assert "1 held-out row had room for fewer than 3 examples" in shots.remarks()[0]
    assert len(shots.limited_to([long_row]).examples) < 3
    assert len(shots.limited_to([short, long_row]).examples) == 3
    assert replace(shots, context=20).limited_to([short]).examples == []


def test_a_model_without_a_chat_template_reads_plain_text():
    shots = few_shot([row("turn on the red lamp", "on(red_lamp)")], plain_text=True)
    asked = row("check", "ok", "again", "yes", system="Be short.")
    (token_row,) = shots.token_rows([asked])
    start = "Be short.\n\nUser: turn on the red lamp\nAssistant: on(red_lamp)\n\nUser: check\nAssistant:"
    assert decoded(shots, token_row.input_ids) == f"{start} ok\n\nUser: again\nAssistant: yes\n\n"
    assert trained_text(shots, token_row) == " ok\n\n yes\n\n"
    question = question_from_row(asked, shots.tokenizer, shots.renderer, 64)
    assert decoded(shots, shots.ask(asked, question).input_ids) == f"{start} ok\n\nUser: again\nAssistant:"
    assert shots.answer_in(" yes\nor so\n\nUser: next\nAssistant: no") == "yes\nor so"


# --- in a measurement and in a run -----------------------------------------------------------------------------------


@pytest.mark.parametrize("plain_text", [False, True])
def test_the_same_rows_are_measured_with_and_without_examples(plain_text):
    shots = few_shot(command_rows(40)[30:32], plain_text=plain_text)
    model, rows = tiny_llama(len(shots.tokenizer)), command_rows(6)
    recipe = made_recipe("base", "rows.jsonl", evaluation=MEASURED | {"max_rows": 6})
    told = []

    def emit(event_type, **payload):
        told.append((event_type, payload))

    before = measure(model, shots.tokenizer, shots.renderer, rows, recipe, phase="before", step=0)
    found = measure(
        model, shots.tokenizer, shots.renderer, rows, recipe, phase="few_shot", step=0, emit=emit, few_shot=shots
    )
    assert [answer["id"] for answer in found.answers] == [answer["id"] for answer in before.answers]
    assert [answer["expected"] for answer in found.answers] == [answer["expected"] for answer in before.answers]
    assert (found.num_rows, set(found.metrics)) == (before.num_rows, set(before.metrics))
    assert found.metrics["loss"] != before.metrics["loss"]
    assert found.examples == shots.examples
    assert plain_text or found.num_tokens == before.num_tokens
    (completed,) = [payload for event_type, payload in told if event_type == "evaluation.completed"]
    assert (completed["phase"], completed["num_examples"]) == ("few_shot", 2)


@pytest.fixture
def context(tmp_path):
    recipe = made_recipe("base", "rows.jsonl", evaluation=MEASURED | {"few_shot": 2})
    context = made_context(tmp_path / "20261120-120000-made-k3f9", recipe)
    context.examples = choose_examples(command_rows(22), context.held_out_rows, 2, 1)
    return context


def test_a_run_measures_it_once_and_the_report_shows_it(context):
    evaluate(context, "before", 0)
    measure_few_shot(context)
    measure_few_shot(context)
    evaluate(context, "after", 3)
    write_report(context.run, state="finished")
    phases = [event["phase"] for event in events_of(context.run, "evaluation.completed")]
    assert phases == ["before", "few_shot", "after"]
    report = json.loads(context.run.report_json_file.read_text())
    assert report["few_shot"]["num_examples"] == 2
    assert [one["id"] for one in report["few_shot"]["examples"]] == [one["id"] for one in context.examples]
    assert report["metrics"][0]["few_shot"] == pytest.approx(report["few_shot"]["metrics"]["loss"])
    assert report["few_shot"]["text"] == "4 answers are too few to tell the tuned model from a prompt with 2 examples."
    assert "| before | few-shot (2) | after |" in context.run.report_markdown_file.read_text()
    assert "Few-shot (2)" in context.run.report_html_file.read_text()


def test_a_context_without_room_is_a_notice_and_no_fault(context):
    context.model.get_base_model().config.max_position_embeddings = 20
    measure_few_shot(context)
    assert not events_of(context.run, "evaluation.completed")
    (notice,) = events_of(context.run, "notice.raised")
    assert notice["code"] == "evaluation.few_shot_left_out"
    assert "20 tokens" in notice["message"]


# --- the verdict -----------------------------------------------------------------------------------------------------


def measured(texts, expected, **metrics):
    answers = [
        {"id": f"made:{place}", "prompt": "", "expected": right, "text": text}
        for place, (text, right) in enumerate(zip(texts, expected, strict=True))
    ]
    return {"examples": [row("q", "a")] * 3, "answers": answers, "metrics": metrics}


def compared(prompted, tuned, count=20):
    """Compare two models that answer so many of the rows right."""
    expected = [f"on(lamp_{place})" for place in range(count)]
    sides = [
        measured(
            [right if place < hits else "no" for place, right in enumerate(expected)],
            expected, exact_match=hits / count, rougeL=hits / count,
        )
        for hits in (prompted, tuned)
    ]  # fmt: skip
    return compare_few_shot(*sides)


@pytest.mark.parametrize(
    ("prompted", "tuned", "verdict"),
    [(0, 20, "tuned"), (10, 19, "tuned"), (18, 19, "equal"), (20, 20, "equal"), (19, 18, "equal"), (20, 5, "few_shot")],
)
def test_the_verdict_knows_noise(prompted, tuned, verdict):
    assert compared(prompted, tuned).verdict == verdict


def test_the_verdict_is_said_plainly():
    assert compared(18, 19).text.startswith(
        "A prompt with 3 examples and no training does as well as the tuned model, within noise "
        "(exact match 90.0 % against 95.0 %, 20 answers)."
    )
    assert "Use the base model with such a prompt." in compared(20, 5).text
    assert compared(0, 20).text.startswith("Training was worth it: a prompt with 3 examples alone reaches less")


def test_too_little_gives_no_verdict():
    assert compared(0, 7, count=7).verdict == "unknown"
    assert compare_few_shot({}, {"metrics": {}}).text == ""
    assert compare_few_shot(measured([], []), {}).text == ""


def test_without_answers_perplexity_speaks():
    prompted, tuned = ({**measured([], [], perplexity=value), "num_rows": 40} for value in (3.0, 2.0))
    assert compare_few_shot(prompted, tuned).verdict == "tuned"
    assert compare_few_shot(prompted, prompted).verdict == "equal"
    assert compare_few_shot(prompted, tuned | {"num_rows": 3}).verdict == "unknown"
    assert "perplexity 2.00 against 3.00" in compare_few_shot(tuned, prompted).text
