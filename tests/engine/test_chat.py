"""Talking to a model: the same answer as in evaluation, whole characters, cancelled at once, errors in words."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from engine.chat_client import ChatClient
from engine.deployment import chat
from engine.deployment.chat import ChatSession, TextStream, choose_token
from engine.recipe.problems import ProblemError
from tests.engine.made_plan import made_plan, made_run
from tests.engine.tiny_models import save_tiny_model, tiny_llama, tiny_tokenizer

QUESTION = [{"role": "user", "content": "turn on the red lamp"}]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a merged model and no adapter; its base is another model."""
    folder = tmp_path_factory.mktemp("chat")
    base = save_tiny_model(folder / "base", seed=1)
    run = made_run(folder / "run", made_plan(base, folder=base, recipe={"data": {"system_prompt": "Be brief."}}))
    save_tiny_model(run.merged_folder, seed=2)
    return run


def by_hand(folder, ids, *, limit, stops=(2,)):
    model, new = AutoModelForCausalLM.from_pretrained(folder).eval(), []
    while len(new) < limit:
        with torch.no_grad():
            token = int(model(torch.tensor([[*ids, *new]])).logits[0, -1].argmax())
        if token in stops:
            break
        new.append(token)
    return new


def test_the_answer_is_the_greedy_one_and_comes_in_pieces(run):
    session = ChatSession(run.path, "cpu")
    assert session.which == "merged"
    ids = session.prompt_ids(QUESTION)
    assert "Be brief." in tiny_tokenizer().decode(ids)
    expected = by_hand(run.merged_folder, ids, limit=20)
    pieces = list(session.reply(QUESTION, max_new_tokens=20))
    assert "".join(pieces) == tiny_tokenizer().decode(expected, skip_special_tokens=True)
    assert len(pieces) > 1
    assert session.num_tokens == len(expected)
    assert session.stop_reason == ("length" if len(expected) == 20 else "stop")


def test_the_base_model_answers_for_comparison(run):
    session = ChatSession(run.path, "cpu", which="base")
    expected = by_hand(run.path.parent / "base", session.prompt_ids(QUESTION), limit=12)
    assert "".join(session.reply(QUESTION, 12)) == tiny_tokenizer().decode(expected, skip_special_tokens=True)


def test_an_adapter_answers_on_its_base(run, tmp_path):
    base_folder = run.path.parent / "base"
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base_folder), LoraConfig(r=2, task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in (parameter for parameter in adapted.parameters() if parameter.requires_grad):
            parameter.normal_(std=0.5)
    adapter_run = made_run(tmp_path / "run", made_plan(base_folder, folder=base_folder))
    adapted.save_pretrained(adapter_run.adapter_folder)
    tiny_tokenizer().save_pretrained(adapter_run.adapter_folder)
    session = ChatSession(adapter_run.path, "cpu")
    assert session.which == "adapter"
    ids = session.prompt_ids(QUESTION)
    with torch.no_grad():
        expected = int(adapted.eval()(torch.tensor([ids])).logits[0, -1].argmax())
    assert next(session._tokens(ids, 1, 0.0)) == expected
    with pytest.raises(ProblemError, match="has left no merged model"):
        ChatSession(adapter_run.path, "cpu", which="merged")


def test_it_stops_at_the_end_of_turn_and_does_not_say_it(run, monkeypatch):
    session = ChatSession(run.path, "cpu")
    script = iter([300, 301, 2, 302])
    monkeypatch.setattr(chat, "choose_token", lambda logits, temperature: next(script))
    assert "".join(session.reply(QUESTION)) == tiny_tokenizer().decode([300, 301])
    assert (session.stop_reason, session.num_tokens) == ("stop", 2)


def test_characters_of_several_tokens_are_never_broken():
    tokenizer = tiny_tokenizer()
    text = "a café 🙂👩‍👩‍👧 日本語 end"
    ids = tokenizer.encode(text, add_special_tokens=False)
    stream = TextStream(tokenizer)
    pieces = [stream.push(token) for token in ids]
    assert "".join(pieces) + stream.rest() == text
    assert not any("\ufffd" in piece for piece in pieces)
    broken = TextStream(tokenizer)
    assert [broken.push(token) for token in tokenizer.encode("🙂", add_special_tokens=False)[:2]] == ["", ""]
    assert "\ufffd" in broken.rest()


def test_temperature_draws_and_zero_does_not():
    logits = torch.tensor([0.0, 1.0, 0.5])
    assert {choose_token(logits, 0.0) for _ in range(20)} == {1}
    torch.manual_seed(0)
    assert {choose_token(logits, 2.0) for _ in range(200)} == {0, 1, 2}
    with pytest.raises(ProblemError, match="no numbers"):
        choose_token(torch.tensor([0.0, float("nan")]), 0.0)


def test_a_conversation_that_fills_the_context_is_refused_and_a_long_answer_ends_there(run):
    session = ChatSession(run.path, "cpu")
    with pytest.raises(ProblemError, match="reads at most 256"):
        list(session.reply([{"role": "user", "content": "lamp " * 300}]))
    session._stop_ids = frozenset()
    list(session.reply([{"role": "user", "content": "lamp " * 100}], max_new_tokens=500))
    assert session.stop_reason == "context"


def test_a_model_of_plain_text_continues_what_is_typed(tmp_path):
    run = made_run(tmp_path / "run", made_plan("made/base", recipe={"objective": "domain-adaptation"}))
    tiny_llama(384).save_pretrained(run.merged_folder)
    tiny_tokenizer(chat_template=None).save_pretrained(run.merged_folder)
    session = ChatSession(run.path, "cpu")
    assert not session.converses
    assert tiny_tokenizer().decode(session.prompt_ids(QUESTION)) == "turn on the red lamp"


def test_a_run_without_a_model_and_a_folder_without_anything_say_so(tmp_path):
    run = made_run(tmp_path / "run", made_plan())
    with pytest.raises(ProblemError, match="has left no model yet"):
        ChatSession(run.path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProblemError, match="neither a run nor a whole model"):
        ChatSession(tmp_path / "empty")


def _interrupt_twice(client, monkeypatch):
    """Leave an answer, and leave once more while its end is awaited, as a person who presses ctrl+c twice does."""

    def interrupted():
        raise KeyboardInterrupt

    stream = client.reply(QUESTION, max_new_tokens=10_000, temperature=2.0)
    next(stream)
    with monkeypatch.context() as patched:
        patched.setattr(client, "_next_or_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.close()


def test_a_client_talks_cancels_and_asks_again(run, tmp_path, monkeypatch):
    with ChatClient(run.path, log_file=tmp_path / "chat.log") as client:
        partner = client.wait_ready()
        assert (partner.which, partner.converses, partner.context_length) == ("merged", True, 256)
        first = "".join(client.reply(QUESTION, max_new_tokens=6))
        expected = by_hand(run.merged_folder, ChatSession(run.path, "cpu").prompt_ids(QUESTION), limit=6)
        assert first == tiny_tokenizer().decode(expected, skip_special_tokens=True)
        assert client.ending is not None
        assert client.ending.num_tokens == len(expected)
        left_early = client.reply(QUESTION, max_new_tokens=10_000, temperature=2.0)
        next(left_early)
        left_early.close()
        assert "".join(client.reply(QUESTION, max_new_tokens=6)) == first
        with pytest.raises(ProblemError, match="reads at most"):
            list(client.reply([{"role": "user", "content": "lamp " * 300}]))
        assert "".join(client.reply(QUESTION, max_new_tokens=6)) == first
        _interrupt_twice(client, monkeypatch)
        assert "".join(client.reply(QUESTION, max_new_tokens=6)) == first
        # Input that was no UTF-8 arrives as halves of surrogate pairs.
        assert list(client.reply([{"role": "user", "content": "lamp \udcff"}], max_new_tokens=2))
        client._process.kill()
        with pytest.raises(ProblemError) as raised:
            list(client.reply(QUESTION))
        assert raised.value.problems[0].code == "chat.ended"


def test_what_is_broken_reaches_the_person_from_the_process(tmp_path):
    run = made_run(tmp_path / "run", made_plan())
    tiny_llama(384).save_pretrained(run.merged_folder)
    (run.merged_folder / "tokenizer.json").write_text("{")
    with ChatClient(run.path, log_file=tmp_path / "chat.log") as client, pytest.raises(ProblemError) as raised:
        client.wait_ready()
    (problem,) = raised.value.problems
    assert problem.code == "tokenizer.damaged"
    assert str(run.merged_folder) in problem.message
    assert "Download or copy" in problem.fix


def test_a_text_model_asks_for_a_beginning(tmp_path):
    run = made_run(tmp_path / "run", made_plan("made/base", recipe={"objective": "domain-adaptation"}))
    tiny_llama(384).save_pretrained(run.merged_folder)
    tiny_tokenizer(chat_template=None).save_pretrained(run.merged_folder)
    with pytest.raises(ProblemError, match="no text to continue"):
        list(ChatSession(run.path, "cpu").reply([{"role": "user", "content": ""}]))


def test_the_client_imports_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "peft", "engine.deployment", "engine.evaluation")
    code = f"import sys, json, engine.chat_client; print(json.dumps([n for n in {heavy!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
