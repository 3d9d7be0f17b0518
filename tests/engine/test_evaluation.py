"""What `measure` reports, against values computed the slow and plain way, and what it must leave alone."""

import json
import math
import random
from pathlib import Path

import numpy
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.evaluation import scoring
from engine.evaluation.batches import in_batches
from engine.evaluation.evaluate import EvaluationInterrupted, measure
from engine.evaluation.general_text import general_rows
from engine.evaluation.generation import Answerer, Written, generation_share
from engine.evaluation.measurement import load_measurement
from engine.evaluation.prompts import question_from_row
from engine.evaluation.scoring import TokenRow, TokenScorer
from engine.evaluation.stopping import stop_token_ids
from engine.recipe.schema import Recipe
from tests.engine.tiny_models import command_rows, text_rows, tiny_llama, tiny_tokenizer


def recipe(objective="chat", *, micro_batch=2, max_length=128, **evaluation):
    defaults = {"max_rows": 20, "generate_rows": 6, "max_new_tokens": 12, "metrics": None}
    return Recipe.model_validate(
        {
            "objective": objective,
            "model": {"base": "made"},
            "data": {"source": "made.jsonl"},
            "training": {"micro_batch": micro_batch, "max_length": max_length},
            "evaluation": defaults | evaluation,
        }
    )


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def model(tokenizer):
    return tiny_llama(len(tokenizer)).train()


def lora(model, *, seed=3):
    torch.manual_seed(seed)
    adapted = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.2, task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return adapted


def reference_sums(model, rows):
    """Loss sum, hits and token count, one row at a time from the whole logits."""
    loss, hits, count = 0.0, 0, 0
    model.eval()
    for row in rows:
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1].double()
        keep = torch.tensor(row.trained_mask[1:], dtype=torch.bool)
        targets = ids[0, 1:]
        loss += functional.cross_entropy(logits, targets, reduction="none")[keep].sum().item()
        hits += int((logits.argmax(-1) == targets)[keep].sum())
        count += int(keep.sum())
    return loss, hits, count


def greedy_text(model, tokenizer, ids, max_new_tokens, stops):
    """Greedy decoding without cache, padding or batches."""
    ids, new = list(ids), []
    model.eval()
    while len(new) < max_new_tokens:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax())
        if token in stops:
            break
        new.append(token)
    return tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_loss_accuracy_and_answers_equal_a_plain_computation(model, tokenizer, with_adapter):
    model = lora(model) if with_adapter else model
    renderer, rows = Renderer(tokenizer, 128), command_rows(20)
    measured = measure(model, tokenizer, renderer, rows, recipe(), phase="before", step=0)
    loss, hits, count = reference_sums(model, [renderer.render(row) for row in rows])
    assert measured.num_rows == 20
    assert measured.num_tokens == count
    assert measured.metrics["loss"] == pytest.approx(loss / count, rel=1e-5)
    assert measured.metrics["perplexity"] == pytest.approx(math.exp(loss / count), rel=1e-5)
    assert measured.metrics["token_accuracy"] == pytest.approx(hits / count)
    expected = [greedy_text(model, tokenizer, renderer.prompt_ids(row), 12, {2}) for row in rows[:6]]
    assert [answer["text"] for answer in measured.answers] == expected
    assert [sample.text for sample in measured.samples] == expected[:3]
    assert measured.samples[0].prompt == rows[0]["messages"][0]["content"]


def test_a_token_weighs_the_same_in_short_and_long_rows(model, tokenizer):
    renderer = Renderer(tokenizer, 128)
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}]}
        for text in ("on", "on(red_lamp) " * 20)
    ]
    measured = measure(model, tokenizer, renderer, rows, recipe(metrics=["perplexity"]), phase="before", step=0)
    loss, _, count = reference_sums(model, [renderer.render(row) for row in rows])
    assert measured.metrics["loss"] == pytest.approx(loss / count, rel=1e-5)
    assert set(measured.metrics) == {"loss", "perplexity"}
    assert measured.num_generated == 0


def test_chunked_head_equals_whole_logits(model, tokenizer, monkeypatch):
    rows = [TokenRow(r.input_ids, r.trained_mask) for r in map(Renderer(tokenizer, 128).render, text_rows(9))]
    model.eval()
    with torch.no_grad():
        whole = TokenScorer(model).score(rows)
        monkeypatch.setattr(scoring, "CHUNK_BYTES", 1)
        chunked = TokenScorer(model).score(rows)
    assert [score.tokens for score in chunked] == [score.tokens for score in whole]
    assert [score.loss for score in chunked] == pytest.approx([score.loss for score in whole], rel=1e-6)


FINISHED_LOGITS = {
    "gemma2": {"final_logit_softcapping": 0.5, "head_dim": 8},
    "cohere": {"logit_scale": 3.0},
    "granite": {"logits_scaling": 0.25},
}


@pytest.mark.parametrize("family", sorted(FINISHED_LOGITS))
def test_logits_that_are_scaled_or_capped_are_never_whole_either(family):
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1}
    torch.manual_seed(5)
    config = AutoConfig.for_model(family, **sizes, **heads, eos_token_id=2, **FINISHED_LOGITS[family])
    model = AutoModelForCausalLM.from_config(config).eval()
    rows = [TokenRow([5, 6, 7, 8, 9], [0, 0, 1, 1, 1]), TokenRow([9, 8, 7], [0, 1, 1])]
    with torch.no_grad():
        scorer = TokenScorer(model)
        assert scorer._can_chunk()
        chunked = scorer.score(rows)
        scorer._head_is_all = False
        whole = scorer.score(rows)
    assert [score.loss for score in chunked] == pytest.approx([score.loss for score in whole], rel=1e-5)


def test_models_that_change_logits_in_an_unknown_way_are_scored_whole(tokenizer, monkeypatch):
    from transformers import GraniteConfig, GraniteForCausalLM

    torch.manual_seed(1)
    model = GraniteForCausalLM(
        GraniteConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, logits_scaling=0.25, max_position_embeddings=128,
            eos_token_id=2, bos_token_id=None, pad_token_id=0,
        )
    ).eval()  # fmt: skip
    rows = [Renderer(tokenizer, 128).render(row) for row in text_rows(4)]
    monkeypatch.setattr(scoring, "after_head", lambda model: lambda logits: logits)
    scorer = TokenScorer(model)
    with torch.no_grad():
        assert not scorer._can_chunk()
        scores = scorer.score([TokenRow(row.input_ids, row.trained_mask) for row in rows])
    loss, hits, count = reference_sums(model, rows)
    assert sum(score.loss for score in scores) == pytest.approx(loss, rel=1e-5)
    assert (sum(score.right for score in scores), sum(score.tokens for score in scores)) == (hits, count)


def training_losses(model, tokenizer, *, evaluate_after):
    """Losses of eight steps with dropout, and whether an evaluation happened in between."""
    renderer = Renderer(tokenizer, 128)
    adapted = lora(model)
    adapted.gradient_checkpointing_enable()
    adapted.config.use_cache = False
    adapted.train()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    torch.manual_seed(11)
    losses = []
    for step in range(6):
        if step == evaluate_after:
            measure(adapted, tokenizer, renderer, command_rows(8), recipe(), phase="during", step=step)
        ids = torch.tensor([renderer.render(command_rows(6)[step]).input_ids])
        loss = adapted(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, random.random(), numpy.random.random(), adapted.config.use_cache


def test_evaluation_does_not_change_the_training_trajectory(tokenizer):
    results = []
    for evaluate_after in (None, 3):
        random.seed(5)
        numpy.random.seed(5)
        results.append(training_losses(tiny_llama(len(tokenizer)), tokenizer, evaluate_after=evaluate_after))
    assert results[0] == results[1]
    assert results[0][0][0] != results[0][0][1]


def test_every_module_gets_its_own_training_flag_back(model, tokenizer):
    model.train()
    model.model.layers[0].eval()
    flags = [module.training for module in model.modules()]
    measure(model, tokenizer, Renderer(tokenizer, 128), command_rows(4), recipe(), phase="during", step=1)
    assert [module.training for module in model.modules()] == flags
    assert len(set(flags)) == 2


def test_during_training_only_samples_are_generated(model, tokenizer):
    measured = measure(model, tokenizer, Renderer(tokenizer, 128), command_rows(9), recipe(), phase="during", step=40)
    assert set(measured.metrics) == {"loss", "perplexity", "token_accuracy"}
    assert measured.num_generated == 0
    assert len(measured.samples) == 3


def test_answers_are_scored_during_training_where_they_say_which_step_is_best(model, tokenizer):
    training = recipe().training.model_copy(update={"best_by": "exact_match"})
    asked = recipe().model_copy(update={"training": training})
    measured = measure(model, tokenizer, Renderer(tokenizer, 128), command_rows(9), asked, phase="during", step=40)
    assert "exact_match" in measured.metrics
    assert measured.num_generated == 6


def test_typed_prompts_are_answered_as_samples_and_scored_nowhere(model, tokenizer):
    prompts = ["turn on the red lamp", "hello"]
    measured = measure(
        model,
        tokenizer,
        Renderer(tokenizer, 128),
        command_rows(9),
        recipe(sample_prompts=prompts),
        phase="after",
        step=9,
    )
    assert [sample.prompt for sample in measured.samples] == prompts
    assert measured.num_generated == 6


def test_plain_text_is_continued_from_its_start(model, tokenizer):
    rows = text_rows(6)
    measured = measure(
        model, tokenizer, Renderer(tokenizer, 128), rows, recipe("domain-adaptation"), phase="before", step=0
    )
    assert set(measured.metrics) == {"loss", "perplexity", "token_accuracy", "general_perplexity"}
    for row, sample in zip(rows, measured.samples, strict=False):
        assert (sample.prompt + sample.expected) == row["text"]


def test_answers_stop_at_every_end_token_and_ignore_the_models_sampling_settings(model, tokenizer):
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    model.generation_config.temperature = 3.0
    ids = Renderer(tokenizer, 128).prompt_ids(command_rows(1)[0])
    free = greedy_text(model, tokenizer, ids, 12, set())
    answerer = Answerer(model.eval(), tokenizer, max_new_tokens=12, micro_batch_tokens=100)
    answerer._stop_ids = []
    with torch.no_grad():
        assert answerer.answer([ids], lambda number: None) == [free]
        third = int(tokenizer.encode(free, add_special_tokens=False)[2])
        answerer._stop_ids = [third]
        assert answerer.answer([ids], lambda number: None) == [greedy_text(model, tokenizer, ids, 12, {third})]


def test_a_long_prompt_does_not_shorten_the_answers_of_others(tokenizer):
    model = tiny_llama(len(tokenizer), max_position_embeddings=48).eval()
    renderer = Renderer(tokenizer, 48)
    short = renderer.prompt_ids(command_rows(1)[0])
    long = (short * 8)[:44]
    answerer = Answerer(model, tokenizer, max_new_tokens=12, micro_batch_tokens=1000)
    answerer._stop_ids = []
    with torch.no_grad():
        answers = answerer.answer([short, long], lambda number: None)
    assert answers == [greedy_text(model, tokenizer, short, 12, set()), greedy_text(model, tokenizer, long, 4, set())]


@pytest.mark.parametrize(
    ("prompt_tokens", "num_prompts", "largest"),
    [
        (20, 9, 4),  # Reads the 80 tokens of a micro-batch, though the cache has room for nine rows.
        (4, 30, 20),  # Short prompts fill the cache instead: 320 tokens of 16 for each row.
    ],
)
def test_no_more_is_read_at_once_than_a_micro_batch_holds(
    model, tokenizer, monkeypatch, prompt_tokens, num_prompts, largest
):
    sizes = []

    def answer_nothing(self, batch):
        sizes.append(len(batch))
        return [Written((), "") for _ in batch]

    monkeypatch.setattr(Answerer, "_answer_batch", answer_nothing)
    answerer = Answerer(model, tokenizer, max_new_tokens=12, micro_batch_tokens=80, cached_share=4.0)
    answerer.answer([[5] * prompt_tokens] * num_prompts, lambda number: None)
    assert max(sizes) == largest
    assert sum(sizes) == num_prompts


def test_every_end_of_an_answer_counts(model):
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<|im_start|>\n{% endfor %}"
    tokenizer = tiny_tokenizer(chat_template=template)
    assert stop_token_ids(tokenizer, model) == [1, 2]
    model.generation_config.eos_token_id = [7, 2]
    assert stop_token_ids(tiny_tokenizer(chat_template=None), model) == [2, 7]
    assert stop_token_ids(tiny_tokenizer(chat_template="{{ raise_exception('no') }}"), model) == [2, 7]


def test_rows_that_do_not_fit_are_left_out_and_said(tokenizer):
    model = tiny_llama(len(tokenizer), max_position_embeddings=48)
    rows = command_rows(4)
    rows[1]["messages"][0]["content"] = "lamp " * 60
    measured = measure(model, tokenizer, Renderer(tokenizer, 40), rows, recipe(max_length=40), phase="before", step=0)
    assert measured.num_generated == 3
    assert measured.num_rows == 3
    assert any("not asked" in remark and "40 tokens" in remark for remark in measured.remarks)
    assert any("1 of 4 held-out rows count in no loss" in remark for remark in measured.remarks)
    long_prompt = recipe(sample_prompts=["lamp " * 60, "lamp"], max_length=40)
    measured = measure(model, tokenizer, Renderer(tokenizer, 40), rows, long_prompt, phase="after", step=0)
    assert [sample.prompt for sample in measured.samples] == ["lamp"]
    assert any("sample prompts fill the model's context of 48" in remark for remark in measured.remarks)


def test_a_long_conversation_is_asked_for_the_last_answer_that_fits(model, tokenizer):
    turns = [
        {"role": role, "content": f"{word} {number}"}
        for number in range(12)
        for role, word in (("user", "check the red lamp"), ("assistant", "on(red_lamp)"))
    ]
    renderer = Renderer(tokenizer, 80)
    question = question_from_row({"id": "a:1", "messages": turns}, tokenizer, renderer, 80)
    assert question is not None
    number = int(question.expected.split()[-1])
    assert 0 < number < 11
    assert question.prompt == f"check the red lamp {number}"
    following = renderer.prompt_ids({"id": "a:1", "messages": turns[: 2 * number + 4]})
    assert len(question.input_ids) <= 80 < len(following)


def test_a_broken_model_is_reported_as_such_and_never_as_zero(model, tokenizer, tmp_path):
    with torch.no_grad():
        model.model.norm.weight.fill_(math.nan)
    told = []
    measured = measure(
        model, tokenizer, Renderer(tokenizer, 128), command_rows(4), recipe(), phase="after", step=3, folder=tmp_path,
        emit=lambda kind, **payload: told.append((kind, payload.get("message"))),
    )  # fmt: skip
    assert ("notice.raised", "The held-out loss is no finite number.") in told
    assert math.isnan(measured.metrics["loss"])
    assert any("no finite number" in remark for remark in measured.remarks)
    written = json.loads((tmp_path / "after.json").read_text(), parse_constant=pytest.fail)
    assert written["metrics"]["loss"] == "NaN"
    assert math.isnan(load_measurement(tmp_path / "after.json")["metrics"]["loss"])


def test_a_request_to_stop_ends_the_evaluation_and_writes_nothing(model, tokenizer, tmp_path):
    for allowed in (0, 3, 12):
        asked = iter(range(10_000))

        def should_stop(limit=allowed, asked=asked):
            return next(asked) >= limit

        with pytest.raises(EvaluationInterrupted):
            measure(
                model, tokenizer, Renderer(tokenizer, 128), command_rows(8), recipe(), phase="before", step=0,
                should_stop=should_stop, folder=tmp_path,
            )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert model.training


def test_events_tell_the_progress_and_the_result(model, tokenizer, tmp_path: Path):
    events = []
    measured = measure(
        model, tokenizer, Renderer(tokenizer, 128), command_rows(8), recipe(), phase="before", step=0,
        emit=lambda kind, **payload: events.append((kind, payload)), folder=tmp_path,
    )  # fmt: skip
    kinds = [kind for kind, _ in events]
    assert kinds[0] == "evaluation.started"
    assert kinds[-2:] == ["evaluation.completed", "samples.generated"]
    progress = [payload for kind, payload in events if kind == "evaluation.progressed"]
    assert [p["done"] for p in progress] == sorted(p["done"] for p in progress)
    # 8 rows, answers to 6 of them, and the general text in windows of 128 tokens.
    windows = Renderer(tokenizer, 128, task=Task("text", "causal-lm")).render_rows(general_rows()).sequences
    assert progress[-1]["done"] == progress[-1]["total"] == 14 + len(windows)
    assert json.loads((tmp_path / "before.json").read_text()) == measured.to_json()


def test_no_rows_is_said_and_not_a_number(model, tokenizer):
    measured = measure(model, tokenizer, Renderer(tokenizer, 128), [], recipe(), phase="before", step=0)
    assert set(measured.metrics) == {"general_perplexity"}
    assert measured.remarks == ["There is no held-out row to measure the loss on."]


def test_batches_keep_to_the_budget_and_lose_no_row():
    dice = random.Random(4)
    lengths = [dice.randint(1, 60) for _ in range(200)]
    batches = [batch for batch, _ in in_batches(lengths, lambda length: length, 100, list)]
    assert sorted(length for batch in batches for length in batch) == sorted(lengths)
    assert all(max(batch) * len(batch) <= 100 for batch in batches)
    assert max(len(batch) for batch in batches) > 10
    assert [batch for batch, _ in in_batches([3, 500], lambda length: length, 100, list)] == [[500], [3]]


def test_a_batch_that_does_not_fit_is_halved_and_the_cut_is_kept():
    tried, told = [], []

    def work(batch):
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [row * 10 for row in batch]

    done = list(in_batches([5, 4, 3, 2, 1], lambda _: 1, 5, work, lambda many, fewer: told.append((many, fewer))))
    assert [row for batch, _ in done for row in batch] == [5, 4, 3, 2, 1]
    assert [result for _, results in done for result in results] == [50, 40, 30, 20, 10]
    assert tried == [5, 2, 2, 1]
    assert told == [(5, 2)]


def test_a_single_row_that_does_not_fit_is_tried_once_more_after_memory_was_given_back():
    tried = []

    def never(batch):
        tried.append(len(batch))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(in_batches([1, 2], lambda _: 1, 2, never))
    assert tried == [2, 1, 1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("rows_that_fit", [1, 3])
def test_results_do_not_depend_on_the_batches_that_memory_leaves(model, tokenizer, monkeypatch, error, rows_that_fit):
    renderer, rows = Renderer(tokenizer, 128), command_rows(20)
    whole = measure(model, tokenizer, renderer, rows, recipe(micro_batch=20), phase="before", step=0)
    fail_beyond(monkeypatch, rows_that_fit, error)
    events = []
    cut = measure(
        model, tokenizer, renderer, rows, recipe(micro_batch=20), phase="before", step=0,
        emit=lambda event_type, **payload: events.append((event_type, payload)),
    )  # fmt: skip
    assert cut.metrics == pytest.approx(whole.metrics, rel=1e-5)
    assert cut.answers == whole.answers
    assert cut.samples == whole.samples
    assert cut.remarks == whole.remarks == []
    notices = [payload for event_type, payload in events if event_type == "notice.raised"]
    assert {notice["code"] for notice in notices} == {"evaluation.smaller_batches"}


def test_what_does_not_fit_even_alone_is_left_out_and_said(model, tokenizer, monkeypatch):
    def refused(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    renderer, rows = Renderer(tokenizer, 128), command_rows(20)
    whole = measure(model, tokenizer, renderer, rows, recipe(), phase="after", step=9)
    monkeypatch.setattr(Answerer, "_answer_batch", refused)
    events = []
    measured = measure(
        model, tokenizer, renderer, rows, recipe(), phase="after", step=9,
        emit=lambda event_type, **payload: events.append((event_type, payload)),
    )  # fmt: skip
    kept = ("loss", "perplexity", "token_accuracy", "general_perplexity")
    assert measured.metrics == {name: whole.metrics[name] for name in kept}
    assert measured.samples == measured.answers == []
    [remark] = measured.remarks
    assert "generated answers" in remark
    assert "after training" in remark
    assert remark in [payload["message"] for event_type, payload in events if event_type == "notice.raised"]

    monkeypatch.setattr(TokenScorer, "score", refused)
    nothing = measure(model, tokenizer, renderer, rows, recipe(), phase="during", step=9)
    assert nothing.metrics == {}
    assert len(nothing.remarks) == 2


def fail_beyond(monkeypatch, num_rows, error):
    """Let scoring and generation run out of memory with more rows than fit."""
    score, answer = TokenScorer.score, Answerer._answer_batch

    def limited_score(self, rows):
        if len(rows) > num_rows:
            raise error
        return score(self, rows)

    def limited_answer(self, batch):
        if len(batch) > num_rows:
            raise error
        return answer(self, batch)

    monkeypatch.setattr(TokenScorer, "score", limited_score)
    monkeypatch.setattr(Answerer, "_answer_batch", limited_answer)


@pytest.mark.parametrize(
    ("kv_heads", "checkpointing", "share"), [(4, False, 4.0), (4, True, 0.5), (1, True, 2.0), (1, False, 4.0)]
)
def test_generation_takes_as_many_tokens_as_training_left_room_for(tokenizer, kv_heads, checkpointing, share):
    model = tiny_llama(len(tokenizer))
    model.config.num_attention_heads, model.config.num_key_value_heads = 4, kv_heads
    model.config.head_dim = model.config.hidden_size // 4
    assert generation_share(model, activation_checkpointing=checkpointing) == share
