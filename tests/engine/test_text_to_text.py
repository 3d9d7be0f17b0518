"""Texts turned into texts: sources and targets apart, whole steps, beams, and a model that anybody can load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from engine.catalog.tasks import Task
from engine.data.frames import cut_pair, frame_of
from engine.data.rendering import Renderer
from engine.data.tokenized import tokenize
from engine.data.xray import xray_page
from engine.deployment.chat import ChatSession
from engine.evaluation.generation import Answerer
from engine.evaluation.scoring import TokenRow
from engine.evaluation.target_scoring import TargetScorer
from engine.objectives.build import make_examples
from engine.objectives.source_batches import SourceCollator
from engine.planning.derive_targets import SUMMARY_PREFIX, choose_prefix
from engine.planning.profiles import DataTraits
from engine.recipe.check import check_recipe
from engine.recipe.problems import ProblemError
from engine.stages import finish
from engine.training.context import RunContext
from engine.training.interrupt import StopRequested
from engine.training.run import evaluate, train
from tests.engine.made_runs import events_of, loss_curve, write_rows
from tests.engine.planned_runs import USUAL, context_of, planned, started
from tests.engine.test_training_resume import last_weights, stop_after
from tests.engine.tiny_kinds import BART, T5, pair_tokenizer, save_pair_model, tiny_bart, tiny_t5
from tests.engine.tiny_models import command_rows, save_tiny_model

FAMILIES = (T5, BART)
TASK = Task(head="seq2seq-lm")


def pairs(count: int) -> list[dict[str, str]]:
    """Return sources with their targets; every fifth source is long."""
    rows = []
    for number, row in enumerate(command_rows(count)):
        ask, answer = (message["content"] for message in row["messages"])
        rows.append({"source": f"{number}: {ask}{' and so on' * (8 if number % 5 == 0 else 0)}", "target": answer})
    return rows


def canonical(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"rows.jsonl:{number + 1}",
            "messages": [
                {"role": "user", "content": row["source"]},
                {"role": "assistant", "content": row["target"]},
            ],
        }
        for number, row in enumerate(pairs(count))
    ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for family in FAMILIES:
        save_pair_model(folder / family, family)
    save_tiny_model(folder / "llama")
    write_rows(folder / "rows.jsonl", pairs(40))
    return folder


def values(world: Path, base: str = T5, **changes: Any) -> dict[str, Any]:
    named = {path.replace("__", "."): value for path, value in changes.items()}
    return {
        "objective": "text-to-text",
        "model.base": str(world / base),
        "method.name": "lora",
        "data.source": str(world / "rows.jsonl"),
        "training.learning_rate": 1e-2,
        "evaluation.generate_rows": 2,
        **named,
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_a_source_and_behind_it_a_target_that_ends(family: str) -> None:
    tokenizer = pair_tokenizer(family)
    row = canonical(1)[0]
    (sequence,) = Renderer(tokenizer, 512, task=Task(head="seq2seq-lm", prefix="do: ")).render_all(row)
    source, target = (message["content"] for message in row["messages"])
    read, written = tokenizer(f"do: {source}")["input_ids"], tokenizer(text_target=target)["input_ids"]
    assert sequence.input_ids == read + written
    assert sequence.trained_mask == [0] * len(read) + [1] * len(written)
    assert written[-1] == tokenizer.eos_token_id


def test_a_target_gets_an_end_where_the_tokenizer_writes_none() -> None:
    tokenizer = pair_tokenizer(T5)
    tokenizer.backend_tokenizer.post_processor = None
    (sequence,) = Renderer(tokenizer, 512, task=TASK).render_all(canonical(1)[0])
    assert sequence.input_ids[-1] == tokenizer.eos_token_id
    assert sequence.input_ids.count(tokenizer.eos_token_id) == 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("length", "target"), [(512, None), (20, None), (20, 4), (8, 2), (512, 3)])
def test_cutting_keeps_the_ends_of_sources_and_is_the_same_from_the_store(family: str, length: int, target: int | None):
    tokenizer, rows = pair_tokenizer(family), canonical(20)
    renderer = Renderer(tokenizer, length, task=TASK, max_target=target)
    direct, stored = renderer.render_rows(rows), tokenize(rows, renderer).cut(length, target)
    assert list(stored.sequences) == list(direct.sequences)
    assert (stored.num_cut, stored.num_targets_cut) == (direct.num_cut, direct.num_targets_cut)
    assert stored.sequences.lengths.tolist() == [len(each.input_ids) for each in direct.sequences]
    assert stored.sequences.num_learnt.tolist() == [each.num_trained for each in direct.sequences]
    for sequence in direct.sequences:
        first = sequence.trained_mask.index(1)
        assert first <= length
        assert sequence.num_trained <= (target or 512)
        assert sequence.input_ids[first - 1] == tokenizer.eos_token_id
    assert (direct.num_targets_cut > 0) is (target is not None)
    assert any("texts to write lose their end" in line for line in direct.sentences()) is (target is not None)


def test_a_pair_loses_the_end_of_its_words_and_not_of_its_frame() -> None:
    kept = cut_pair(10, 15, 6, 3, 1)
    assert (kept.gap_begin, kept.gap_end, kept.end) == (5, 9, 13)
    whole = cut_pair(10, 15, 10, 5, 1)
    assert (whole.gap_end - whole.gap_begin, whole.end) == (0, 15)
    assert frame_of(TASK, pair_tokenizer(BART)).tail == (pair_tokenizer(BART).eos_token_id,)


def test_rows_of_several_turns_are_left_out_and_named() -> None:
    talk = {"id": "rows.jsonl:9", "messages": [*canonical(1)[0]["messages"], *canonical(1)[0]["messages"]]}
    renderer = Renderer(pair_tokenizer(T5), 64, task=TASK)
    for rendered in (renderer.render_rows([*canonical(2), talk]), tokenize([*canonical(2), talk], renderer).cut(64)):
        assert (len(rendered.sequences), dict(rendered.dropped.counts)) == (2, {"not_one_turn": 1})
        assert "1 row" in rendered.sentences()[0]
        assert "rows.jsonl:9" in rendered.sentences()[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_decoder_reads_what_the_model_itself_would_shift(family: str) -> None:
    tokenizer = pair_tokenizer(family)
    model = tiny_t5(len(tokenizer)) if family == T5 else tiny_bart(len(tokenizer))
    model.config.decoder_start_token_id = 2 if family == BART else 0
    rendered = Renderer(tokenizer, 64, task=TASK).render_rows(canonical(6))
    recipe = check_recipe({"objective": "text-to-text", "model": {"base": "x"}, "data": {"source": "y"}}, name="test")
    examples = make_examples(recipe, TASK, rendered, 64)
    batch = SourceCollator.of(model, tokenizer)([dict(row) for row in examples.dataset()])
    shifted = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    learnt = batch["labels"] != -100
    assert torch.equal(batch["decoder_input_ids"][learnt], shifted[learnt])
    with torch.no_grad():
        own = model.eval()(**batch).loss
        logits = model(**{name: batch[name] for name in batch if name != "labels"}).logits
    ours = torch.nn.functional.cross_entropy(logits[learnt], batch["labels"][learnt])
    torch.testing.assert_close(ours, own)
    assert int(examples.weights.sum()) == int(learnt.sum())


def test_a_model_that_does_not_say_where_its_decoder_starts_is_refused() -> None:
    tokenizer = pair_tokenizer(T5)
    with pytest.raises(ProblemError, match="which token its decoder starts from"):
        SourceCollator.of(tiny_t5(len(tokenizer)), tokenizer)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_and_answers_do_not_depend_on_the_batch(world: Path, family: str) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(world / family)
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 2 if family == BART else 0
    tokenizer = pair_tokenizer(family)
    renderer = Renderer(tokenizer, 64, task=TASK)
    rows = [TokenRow(each.input_ids, each.trained_mask) for each in renderer.render_rows(canonical(6)).sequences]
    scorer = TargetScorer(model.eval(), tokenizer)
    together = scorer.score(rows)
    alone = [scorer.score([row])[0] for row in rows]
    for one, other in zip(together, alone, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert (one.right, one.tokens) == (other.right, other.tokens)
    prompts = [renderer.prompt_ids(row) for row in canonical(6)]
    for beams in (1, 3):
        answerer = Answerer(model, tokenizer, max_new_tokens=6, micro_batch_tokens=4096, num_beams=beams)
        texts = answerer.answer(prompts, lambda _: None)
        for prompt, text in zip(prompts, texts, strict=True):
            plain = model.generate(
                torch.tensor([prompt]), max_new_tokens=6, do_sample=False, num_beams=beams, min_length=0
            )
            assert text == tokenizer.decode(plain[0], skip_special_tokens=True)


@pytest.mark.parametrize(("family", "method"), [(T5, "full"), (BART, "lora"), (T5, "qlora")])
def test_a_run_learns_and_leaves_a_model_that_anybody_loads(
    world: Path, tmp_path: Path, family: str, method: str
) -> None:
    recipe = values(world, family, method__name=method, training__max_steps=12, text_to_text__prefix="do: ")
    run = started(tmp_path, recipe)
    context = context_of(run)
    evaluate(context, "before", 0)
    train(context)
    evaluate(context, "after", 12)
    before, after = (json.loads((run.evaluation_folder / f"{phase}.json").read_text()) for phase in ("before", "after"))
    assert after["metrics"]["loss"] < before["metrics"]["loss"]
    assert {"perplexity", "token_accuracy", "rougeL", "bleu", "chrf", "exact_match"} <= after["metrics"].keys()
    assert after["num_generated"] == len(after["answers"]) == 2
    finish(context)
    model = AutoModelForSeq2SeqLM.from_pretrained(run.merged_folder)
    tokenizer = AutoTokenizer.from_pretrained(run.merged_folder)
    assert tokenizer.padding_side == "right"
    plan = run.read_plan()
    assert model.generation_config.max_new_tokens == plan.recipe.text_to_text.max_target_length
    assert model.generation_config.decoder_start_token_id is not None
    written = model.generate(**tokenizer(f"do: {pairs(1)[0]['source']}", return_tensors="pt"))
    with torch.no_grad():
        session = ChatSession(run.path)
        said = "".join(session.reply([{"role": "user", "content": pairs(1)[0]["source"]}], max_new_tokens=16))
    if method != "qlora":
        assert said == tokenizer.decode(written[0], skip_special_tokens=True)
    card = (run.merged_folder / "README.md").read_text()
    assert "AutoModelForSeq2SeqLM" in card
    assert '"do: ' in card
    statuses = {event["id"]: event["status"] for event in events_of(run, "preflight.checked")}
    assert {statuses[check] for check in ("P1", "P2", "P3", "P5", "P6", "P7", "P13", "P23")} == {"passed"}


def test_micro_batches_make_no_difference_and_a_stopped_run_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = values(world, T5, training__effective_batch=8, training__max_steps=6)
    curves = []
    for micro_batch in (8, 1):
        context = context_of(started(tmp_path / str(micro_batch), recipe), micro_batch=micro_batch)
        train(context)
        curves.append(loss_curve(context.run))
    assert list(curves[0]) == [1, 2, 3, 4, 5, 6]
    assert curves[1] == pytest.approx(curves[0], rel=2e-4)

    stopped = started(tmp_path / "stopped", recipe)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(StopRequested):
            train(context_of(stopped, micro_batch=8))
    resumed = context_of(stopped, micro_batch=8)
    assert resumed.checkpoint is not None
    train(resumed)
    assert loss_curve(stopped) == curves[0]
    (straight,) = (tmp_path / "8" / "runs").iterdir()
    expected, found = last_weights(straight), last_weights(stopped.path)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_plan_says_why_and_refuses_what_nothing_reads(world: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, values(world))
    recipe, sources = plan.recipe, plan.sources
    assert not plan.blocked
    assert plan.data.source_lengths.longest <= recipe.training.max_length
    assert "text to write" in sources["text_to_text.max_target_length"].detail
    assert recipe.text_to_text.max_target_length >= plan.data.answer_lengths.longest
    assert (recipe.training.packing, recipe.evaluation.few_shot) == (False, 0)
    for path, value in (("training.packing", True), ("evaluation.few_shot", 2), ("data.system_prompt", "Be brief.")):
        refused = planned(tmp_path, values(world) | {path: value})
        assert [f.path for f in refused.findings if f.code == "recipe.no_effect" and f.severity == "error"] == [path]
        assert not [
            f
            for f in planned(tmp_path, values(world, "llama") | {path: value}).findings
            if f.path == path and f.code == "recipe.no_effect"
        ]
    of_decoder = planned(tmp_path, values(world, "llama", text_to_text__max_target_length=9))
    assert "text_to_text.max_target_length" in [f.path for f in of_decoder.findings if f.severity == "error"]


def test_t5_is_given_the_words_that_it_learnt_summaries_by(world: Path, tmp_path: Path) -> None:
    model = planned(tmp_path, values(world)).model
    summaries = DataTraits(num_rows=50, mean_prompt_words=120, mean_answer_words=20)
    assert choose_prefix(model, summaries)[0] == SUMMARY_PREFIX
    assert choose_prefix(model, summaries.model_copy(update={"mean_answer_words": 100}))[0] == ""
    assert choose_prefix(model, summaries.model_copy(update={"mean_prompt_words": 6, "mean_answer_words": 2}))[0] == ""
    assert choose_prefix(model.model_copy(update={"model_type": "bart"}), summaries)[0] == ""


def test_the_x_ray_shows_sources_and_what_is_learnt_of_them(world: Path) -> None:
    tree = {path: value for path, value in (USUAL | values(world)).items()}
    from engine.recipe.sources import unflatten

    recipe = check_recipe(unflatten(tree | {"text_to_text.prefix": "do: "}), name="test")
    page = xray_page(recipe, str(world / BART), count=4)
    rows = pairs(40)
    for sequence in page["sequences"]:
        number = int(sequence["row_ids"][0].rsplit(":", 1)[1]) - 1
        learnt = "".join(token["text"] for token in sequence["tokens"] if token["trained"])
        read = "".join(token["text"] for token in sequence["tokens"] if not token["trained"] and not token["padding"])
        assert learnt == f"<s>{rows[number]['target']}</s>"
        assert read == f"<s>do: {rows[number]['source']}</s>"
    assert page["problems"] == []


def test_a_model_that_goes_on_with_texts_reads_the_prefix_as_instruction(world: Path, tmp_path: Path) -> None:
    recipe = values(world, "llama", text_to_text__prefix="Turn this into a command: ", text_to_text__num_beams=2)
    run = started(tmp_path, recipe | {"delivery.merge": True})
    context = context_of(run)
    ids = context.rendered.sequences[0].input_ids
    assert "Turn this into a command: " in context.tokenizer.decode(ids)
    evaluate(context, "before", 0)
    train(context)
    evaluate(context, "after", 4)
    finish(context)
    assert AutoModelForCausalLM.from_pretrained(run.merged_folder)
    assert "Turn this into a command: " in (run.merged_folder / "README.md").read_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_label_smoothing_spreads_a_part_of_each_target_over_the_vocabulary(
    world: Path, tmp_path: Path, family: str
) -> None:
    """As arXiv 1512.00567 has it, counted by hand from all rows, which are the first step; however that is cut."""
    whole = {"method__name": "full", "training__effective_batch": 32, "training__max_steps": 1}
    losses = {}
    for smoothing, rows_at_once in ((0.0, 4), (0.25, 4), (0.25, 2)):
        folder = tmp_path / f"{smoothing}-{rows_at_once}"
        changes = {**whole, "training__label_smoothing": smoothing, "training__micro_batch": rows_at_once}
        context = context_of(started(folder, values(world, family, **changes)))
        by_hand = _smoothed_by_hand(context, smoothing)
        train(context)
        losses[smoothing] = loss_curve(context.run)[1]
        assert losses[smoothing] == pytest.approx(by_hand, rel=1e-4)
    assert abs(losses[0.25] - losses[0.0]) > 1e-3


def _smoothed_by_hand(context: RunContext, smoothing: float) -> float:
    """Return the mean loss of all target tokens, from the logits of each row alone."""
    collate = SourceCollator.of(context.model, context.tokenizer)
    total, count = 0.0, 0
    length = context.recipe.training.max_length or 512
    for row in make_examples(context.recipe, context.task, context.rendered, length).dataset():
        batch = collate([dict(row)])
        labels = batch.pop("labels")[0]
        with torch.no_grad():
            told = context.model(**batch).logits[0].float().log_softmax(dim=-1)
        own, others = told.gather(1, labels[:, None]).sum(), told.mean(dim=-1).sum()
        total -= float((1 - smoothing) * own + smoothing * others)
        count += len(labels)
    return total / count
