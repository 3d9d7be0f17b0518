"""Hidden words: which ones, whole steps, the same measure before and after, and a model that fills gaps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, pipeline

from engine.catalog.tasks import Task
from engine.data.rendering import Renderer
from engine.data.tokenized import tokenize
from engine.data.xray import xray_page
from engine.deployment.chat import ChatSession
from engine.evaluation.general_text import general_rows
from engine.objectives.build import build_trainer
from engine.objectives.masking import JUDGED, Masker, num_hidden
from engine.objectives.sequences import IGNORED
from engine.recipe.check import check_recipe
from engine.recipe.problems import ProblemError
from engine.recipe.sources import unflatten
from engine.stages import finish
from engine.training.interrupt import StopRequested
from engine.training.run import evaluate, train
from tests.engine.made_runs import events_of, loss_curve
from tests.engine.planned_runs import USUAL, context_of, planned, started
from tests.engine.test_training_resume import last_weights, stop_after
from tests.engine.tiny_kinds import BERT, MODERNBERT, ROBERTA, masked_tokenizer, save_encoder
from tests.engine.tiny_models import save_tiny_model, text_rows

FAMILIES = (BERT, ROBERTA, MODERNBERT)
TASK = Task("text", "masked-lm")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for family in FAMILIES:
        save_encoder(folder / family, family)
    save_tiny_model(folder / "llama")
    (folder / "book.txt").write_text("\n".join(row["text"] * 3 for row in text_rows(90)))
    return folder


def values(world: Path, base: str = BERT, **changes: Any) -> dict[str, Any]:
    named = {path.replace("__", "."): value for path, value in changes.items()}
    return {
        "objective": "domain-adaptation",
        "model.base": str(world / base),
        "method.name": "full",
        "data.source": str(world / "book.txt"),
        "training.learning_rate": 1e-2,
        "training.max_length": 48,
        **named,
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [8, 20, 500])
def test_windows_are_framed_as_the_tokenizer_frames_a_text(family: str, length: int) -> None:
    tokenizer, rows = masked_tokenizer(family), text_rows(9)
    renderer = Renderer(tokenizer, length, task=TASK)
    direct, stored = renderer.render_rows(rows), tokenize(rows, renderer).cut(length)
    assert list(stored.sequences) == list(direct.sequences)
    assert stored.sequences.lengths.tolist() == [len(each.input_ids) for each in direct.sequences]
    assert stored.sequences.num_learnt.tolist() == [sum(each.trained_mask) for each in direct.sequences]
    words: dict[str, list[int]] = {}
    for window in direct.sequences:
        assert len(window.input_ids) <= length
        assert (window.input_ids[0], window.input_ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert window.trained_mask == [0, *([1] * (len(window.input_ids) - 2)), 0]
        words.setdefault(window.id, []).extend(window.input_ids[1:-1])
    whole = {row["id"]: tokenizer(row["text"], add_special_tokens=False)["input_ids"] for row in rows}
    assert words.keys() == whole.keys()
    for name, ids in whole.items():
        # A last window of one word begins a word earlier.
        assert words[name] in (ids, [*ids[:-2], ids[-2], ids[-1]]) or words[name][-2:] == ids[-2:]


def test_words_that_the_text_spells_as_special_tokens_are_never_hidden() -> None:
    tokenizer = masked_tokenizer()
    (window,) = Renderer(tokenizer, 64, task=TASK).render_all({"id": "a:1", "text": "the red [SEP] lamp [MASK] is on"})
    for token, trained in zip(window.input_ids, window.trained_mask, strict=True):
        assert trained == (token not in tokenizer.all_special_ids)


def test_which_words_are_hidden_depends_on_seed_step_and_text_alone() -> None:
    tokenizer = masked_tokenizer()
    masker = Masker(tokenizer, 0.3, 7)
    ids = list(range(10, 110))
    labels = [IGNORED, *ids[1:-1], IGNORED]
    first = masker.hide(ids, labels, 3)
    assert first == Masker(tokenizer, 0.3, 7).hide(ids, labels, 3)
    other_seed = Masker(tokenizer, 0.3, 8)
    others = [masker.hide(ids, labels, 4), other_seed.hide(ids, labels, 3), masker.hide(ids[::-1], labels, 3)]
    assert all(other.labels != first.labels for other in others)
    for hidden in (first, *others):
        places = [place for place, label in enumerate(hidden.labels) if label != IGNORED]
        assert len(places) == int(num_hidden(np.array([98]), 0.3)[0]) == 29
        assert not {0, 99}.intersection(places)
    readable = [place for place, label in enumerate(first.labels) if label == IGNORED]
    assert all(first.input_ids[place] == ids[place] for place in readable)


def test_eight_in_ten_hidden_words_are_behind_the_mask_and_all_of_them_in_a_measurement() -> None:
    tokenizer = masked_tokenizer()
    masker = Masker(tokenizer, 0.5, 1)
    ids = [10 + place % 250 for place in range(4000)]
    for step, expected in ((0, (0.8, 0.1)), (JUDGED, (1.0, 0.0))):
        hidden = masker.hide(ids, ids, step)
        places = [place for place, label in enumerate(hidden.labels) if label != IGNORED]
        behind = sum(hidden.input_ids[place] == tokenizer.mask_token_id for place in places) / len(places)
        kept = sum(hidden.input_ids[place] == ids[place] for place in places) / len(places)
        assert behind == pytest.approx(expected[0], abs=0.03)
        assert kept == pytest.approx(expected[1], abs=0.03)
        assert [hidden.labels[place] for place in places] == [ids[place] for place in places]


def test_every_text_hides_a_word_however_short() -> None:
    assert num_hidden(np.array([1, 2, 10, 100]), 0.15).tolist() == [1, 1, 2, 15]


def test_the_loss_is_that_of_the_library_over_the_hidden_words_of_the_step(world: Path, tmp_path: Path) -> None:
    context = context_of(started(tmp_path, values(world)))
    built = build_trainer(context)
    rows = built.order.rows_of_step(0)
    batch = built.trainer.data_collator([built.trainer.train_dataset[row] for row in rows])
    count = int((batch["labels"] != IGNORED).sum())
    assert count == built.trainer.weight_of_step(0)
    with torch.no_grad():
        own = context.model.train()(**batch).loss
        ours = built.trainer.compute_loss(context.model, dict(batch), num_items_in_batch=torch.tensor(count))
    torch.testing.assert_close(ours, own)


def test_micro_batches_make_no_difference_and_a_stopped_run_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = values(world, training__effective_batch=8, training__max_steps=6)
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


@pytest.mark.parametrize(("family", "method"), [(BERT, "full"), (ROBERTA, "lora"), (MODERNBERT, "lora")])
def test_a_run_learns_and_leaves_a_model_that_fills_gaps(world: Path, tmp_path: Path, family: str, method: str) -> None:
    recipe = values(world, family, method__name=method, training__max_steps=16, domain_adaptation__masked_share=0.3)
    run = started(tmp_path, recipe)
    context = context_of(run)
    evaluate(context, "before", 0)
    evaluate(context, "test_before", 0)
    train(context)
    evaluate(context, "after", 16)
    before, after = (json.loads((run.evaluation_folder / f"{phase}.json").read_text()) for phase in ("before", "after"))
    names = {"loss", "masked_perplexity", "masked_accuracy", "general_masked_perplexity"}
    assert before["metrics"].keys() == after["metrics"].keys() == names
    assert after["metrics"]["masked_perplexity"] < before["metrics"]["masked_perplexity"]
    assert after["num_rows"] == 4
    for one, other in zip(before["samples"], after["samples"], strict=True):
        assert one["prompt"] == other["prompt"]
        assert one["prompt"].count(str(context.tokenizer.mask_token)) == 1
        assert one["expected"]
    tested = json.loads((run.evaluation_folder / "test_before.json").read_text())
    assert not tested["samples"]
    assert "general_masked_perplexity" not in tested["metrics"]
    finish(context)
    model = AutoModelForMaskedLM.from_pretrained(run.merged_folder)
    tokenizer = AutoTokenizer.from_pretrained(run.merged_folder)
    assert tokenizer.padding_side == "right"
    guesses = pipeline("fill-mask", model=model, tokenizer=tokenizer)(f"the red {tokenizer.mask_token} is on")
    assert len(guesses) == 5
    card = (run.merged_folder / "README.md").read_text()
    assert "AutoModelForMaskedLM" in card
    assert "tokenizer.mask_token" in card
    statuses = {event["id"]: event["status"] for event in events_of(run, "preflight.checked")}
    passed = {check: statuses[check] for check in ("P1", "P3", "P7", "P13", "P22", "P23")}
    assert set(passed.values()) == {"passed"}, passed
    assert not {"P2", "P4", "P5", "P6", "P8"}.intersection(statuses)
    with pytest.raises(ProblemError, match="writes nothing"):
        ChatSession(run.path)


def test_typed_prompts_are_filled_and_those_without_a_gap_are_named(world: Path, tmp_path: Path) -> None:
    prompts = ["turn on the [MASK] lamp, [MASK]", "turn on the red lamp"]
    context = context_of(started(tmp_path, values(world, evaluation__sample_prompts=prompts)))
    evaluate(context, "before", 0)
    measured = json.loads((context.run.evaluation_folder / "before.json").read_text())
    (sample,) = measured["samples"]
    assert sample["prompt"] == prompts[0]
    assert sample["text"].count(", ") >= 1
    assert any("has no [MASK]" in remark for remark in measured["remarks"])


def test_the_plan_hides_words_of_encoders_alone_and_refuses_what_nothing_reads(world: Path, tmp_path: Path) -> None:
    plan = planned(tmp_path, values(world, training__max_length=None))
    assert (plan.task.head, plan.recipe.training.packing) == ("masked-lm", False)
    assert plan.recipe.evaluation.metrics == ["masked_perplexity", "masked_accuracy", "general_text"]
    assert plan.sources["training.max_length"].detail.startswith("windows of text")
    unread = {"training.packing": True, "evaluation.max_new_tokens": 9}
    for path, value in unread.items():
        findings = planned(tmp_path, values(world) | {path: value}).findings
        assert [f.path for f in findings if f.code == "recipe.no_effect" and f.severity == "error"] == [path]
    with_words = planned(tmp_path, values(world, "llama", domain_adaptation__masked_share=0.3)).findings
    assert [f.path for f in with_words if f.severity == "error"] == ["domain_adaptation.masked_share"]
    for base, metric in ((BERT, "perplexity"), ("llama", "masked_accuracy")):
        asked = planned(tmp_path, values(world, base, evaluation__metrics=[metric])).findings
        assert "evaluation.metric_head" in [f.code for f in asked if f.severity == "error"]
    assert planned(tmp_path, values(world, "llama")).recipe.evaluation.metrics == [
        "perplexity", "token_accuracy", "general_text",
    ]  # fmt: skip


def test_a_model_that_writes_is_measured_on_general_text_too(world: Path, tmp_path: Path) -> None:
    context = context_of(started(tmp_path, values(world, "llama")))
    evaluate(context, "before", 0)
    metrics = json.loads((context.run.evaluation_folder / "before.json").read_text())["metrics"]
    assert metrics["general_perplexity"] > 1
    rows = general_rows()
    assert len(rows) == 40
    assert all(30 < len(row["text"].split()) < 70 for row in rows)
    assert len({row["text"] for row in rows}) == 40


def test_the_x_ray_shows_one_draw_of_hidden_words(world: Path) -> None:
    recipe = check_recipe(unflatten(USUAL | values(world, domain_adaptation__masked_share=0.2)), name="test")
    page = xray_page(recipe, str(world / BERT), count=3)
    for sequence in page["sequences"]:
        marked = [token["text"] for token in sequence["tokens"] if token["trained"]]
        assert len(marked) == sequence["num_trained"] == int(num_hidden(np.array([sequence["num_tokens"] - 2]), 0.2)[0])
        assert "[MASK]" in marked
        assert sequence["learns"]
        assert "[MASK]" not in sequence["learns"]
    assert "Words are hidden" in page["learnt"]
    assert page["trained_share"] == pytest.approx(0.2, abs=0.03)
    assert [problem["code"] for problem in page["problems"]] in ([], ["preflight.p14"])
