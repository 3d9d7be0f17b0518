"""Learning from better and worse answers: whole steps however they are cut, against a reference that never moves."""

import math
from pathlib import Path

import pytest
import torch

from engine.data.rendering import Renderer
from engine.evaluation.evaluate import measure
from engine.objectives.build import build_trainer
from engine.objectives.pair_batches import first_trained, grouped, log_probs, mismatched, padded
from engine.objectives.references import make_references
from engine.planning.plan import Plan
from engine.training.callbacks import RunCallback
from engine.training.preflight_learning import check_trial
from engine.training.preflight_pairs import check_reference
from engine.training.run import train
from tests.engine.made_pairs import marked_rows, pair_recipe, pair_rows, pairs_context, weights_of
from tests.engine.made_runs import events_of, loss_curve

STEPS = {"effective_batch": 8, "micro_batch": 8, "max_steps": 4, "learning_rate": 5e-3, "warmup": 0.0}
CASES = {
    "dpo lora": pair_recipe(training=STEPS),
    "dpo full": pair_recipe(training=STEPS, method={"name": "full"}),
    "kto pairs": pair_recipe(training=STEPS, preference={"loss": "kto"}),
    "kto marked": pair_recipe(training=STEPS, preference={"loss": "kto", "desirable_weight": 0.5}),
    "orpo": pair_recipe(training=STEPS, preference={"loss": "orpo"}),
    "simpo": pair_recipe(training=STEPS, preference={"loss": "simpo"}),
    "reward": pair_recipe("reward-model", training=STEPS, reward_model={"centering": 0.01}),
}


def rows_of(case: str, count: int = 20) -> list[dict]:
    return marked_rows(count) if case == "kto marked" else pair_rows(count)


def changed(recipe, **training):
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})


def extras(context) -> list[dict[str, float]]:
    return [event["extra"] for event in events_of(context.run, "step.logged")]


@pytest.mark.parametrize(
    "case",
    [
        "dpo lora",
        "kto marked",
        "reward",
        *(pytest.param(case, marks=pytest.mark.slow) for case in ("kto pairs", "orpo")),
    ],
)
def test_eight_micro_batches_of_one_are_one_of_eight(case: str, tmp_path: Path) -> None:
    curves, told = [], []
    # 19 rows are two whole steps and one of three, which two rows at once cut unevenly.
    for micro_batch in (8, 2):
        recipe = changed(CASES[case], micro_batch=micro_batch)
        context = pairs_context(tmp_path / f"by-{micro_batch}", recipe, rows_of(case, 19))
        train(context)
        curves.append(loss_curve(context.run))
        told.append(extras(context))
    assert list(curves[0]) == [1, 2, 3, 4]
    for curve, extra in zip(curves[1:], told[1:], strict=True):
        assert curve == pytest.approx(curves[0], rel=2e-4)
        for ours, first in zip(extra, told[0], strict=True):
            assert ours["reward_margin"] == pytest.approx(first["reward_margin"], abs=1e-4)
            assert 0 <= ours["reward_accuracy"] <= 1


@pytest.mark.parametrize("case", ["dpo full", "reward", pytest.param("kto marked", marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_as_if_nothing_had_happened(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(CASES[case], checkpoint_every=2, micro_batch=4)
    straight = pairs_context(tmp_path / "straight", recipe, rows_of(case))
    train(straight)
    stopped = pairs_context(tmp_path / "stopped", recipe, rows_of(case))
    as_it_is = RunCallback.on_step_end

    def stop(self, args, state, control, **rest):
        as_it_is(self, args, state, control, **rest)
        if state.global_step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunCallback, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    resumed = pairs_context(tmp_path / "stopped", recipe, rows_of(case))
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.step == 2
    train(resumed)
    assert loss_curve(resumed.run) == loss_curve(straight.run)
    for name, weight in straight.model.named_parameters():
        assert torch.equal(weight, dict(resumed.model.named_parameters())[name]), name


@pytest.mark.parametrize("case", ["dpo full", "reward"])
def test_recomputing_activations_changes_nothing(case: str, tmp_path: Path) -> None:
    curves = []
    for on in (False, True):
        context = pairs_context(tmp_path / str(on), changed(CASES[case], activation_checkpointing=on), rows_of(case))
        train(context)
        curves.append(loss_curve(context.run))
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


@pytest.mark.parametrize("case", ["dpo lora", "dpo full", "kto pairs"])
def test_the_first_step_starts_at_not_knowing_and_the_reference_stays(case: str, tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES[case], rows_of(case))
    assert context.references is not None
    before = context.references.train.clone()
    train(context)
    expected = 0.5 if case.startswith("kto") else math.log(2)
    assert loss_curve(context.run)[1] == pytest.approx(expected, abs=1e-5)
    assert extras(context)[0] == pytest.approx({"reward_accuracy": 0.5, "reward_margin": 0.0}, abs=1e-5)
    assert loss_curve(context.run)[4] < expected
    assert torch.equal(context.references.train, before)
    again = pairs_context(tmp_path / "run", CASES[case], rows_of(case))
    assert again.references is not None
    assert torch.equal(again.references.train, before)


def test_a_reference_of_other_rows_is_made_again(tmp_path: Path) -> None:
    first = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(20))
    second = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(16))
    assert first.references is not None
    assert second.references is not None
    assert (len(first.references.train), len(second.references.train)) == (20, 16)


def test_only_rows_that_a_step_reads_are_asked_of_the_untouched_model(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", changed(CASES["dpo lora"], max_steps=1), pair_rows(20))
    assert context.references is not None
    assert int(torch.isnan(context.references.train).any(dim=1).sum()) == 12
    train(context)
    assert math.isfinite(loss_curve(context.run)[1])


@pytest.mark.parametrize("variant", ["plain", "pissa"])
def test_the_reference_is_the_base_model_whatever_the_method_does_to_it(variant: str, tmp_path: Path) -> None:
    base = pairs_context(tmp_path / "base", CASES["dpo full"], pair_rows(8))
    recipe = pair_recipe(training=STEPS, method={"name": "lora", "variant": variant})
    adapted = pairs_context(tmp_path / "adapted", recipe, pair_rows(8))
    assert base.references is not None
    assert adapted.references is not None
    torch.testing.assert_close(adapted.references.train, base.references.train, atol=1e-3, rtol=1e-5)
    train(adapted)
    assert loss_curve(adapted.run)[1] == pytest.approx(math.log(2), abs=1e-5)


def test_no_second_adapter_or_model_is_held(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(8))
    before = weights_of(context)
    trainer = build_trainer(context).trainer
    assert weights_of(context).keys() == before.keys()
    assert list(context.model.peft_config) == ["default"]
    assert not any(isinstance(value, torch.nn.Module) and value is not trainer.model and value is not context.model
                   for name, value in vars(trainer).items() if "model" in name)  # fmt: skip


def test_frozen_weights_stay_and_trained_ones_move(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(16))
    before = weights_of(context)
    train(context)
    for name, weight in context.model.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name


def test_learning_prefers_the_chosen_answers(tmp_path: Path) -> None:
    recipe = changed(CASES["dpo lora"], max_steps=12)
    context = pairs_context(tmp_path / "run", recipe, pair_rows(16))
    at = {"renderer": context.renderer, "rows": context.held_out_rows, "recipe": recipe}
    measured = {}
    for phase in ("before", "after"):
        measured[phase] = measure(
            context.model, context.tokenizer, at["renderer"], at["rows"], recipe, phase=phase, step=0,
            references=context.references,
        )  # fmt: skip
        if phase == "before":
            train(context)
    before, after = measured["before"].metrics, measured["after"].metrics
    assert before == pytest.approx({"loss": math.log(2), "reward_accuracy": 0.5, "reward_margin": 0.0}, abs=1e-9)
    assert after["reward_accuracy"] == 1.0
    assert after["reward_margin"] > 0.1
    assert after["loss"] < 0.6


def test_answers_marked_good_or_bad_are_held_against_each_other(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", changed(CASES["kto marked"], max_steps=12), marked_rows(16))
    train(context)
    found = measure(
        context.model, context.tokenizer, context.renderer, context.held_out_rows, context.recipe,
        phase="after", step=12, references=context.references,
    )  # fmt: skip
    assert found.metrics["reward_accuracy"] == 1.0
    assert found.num_rows == 4


def test_without_its_reference_a_later_measurement_says_so(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(8), references=False)
    found = measure(
        context.model, context.tokenizer, context.renderer, context.held_out_rows, context.recipe,
        phase="after", step=4,
    )  # fmt: skip
    assert "loss" not in found.metrics
    assert any("untouched model are missing" in remark for remark in found.remarks)


def test_a_reward_model_learns_which_answer_people_chose(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", changed(CASES["reward"], max_steps=12), pair_rows(16))
    train(context)
    found = measure(
        context.model, context.tokenizer, context.renderer, context.held_out_rows, context.recipe,
        phase="after", step=12,
    )  # fmt: skip
    assert found.metrics["reward_accuracy"] == 1.0
    assert found.samples[0].text.startswith("chosen ")


@pytest.mark.parametrize("case", ["dpo lora", "kto marked", "reward"])
def test_the_trial_before_the_first_step_learns_pairs_and_leaves_no_trace(case: str, tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", changed(CASES[case], preflight="full"), rows_of(case))
    before = weights_of(context)
    verdict = check_trial(context)
    assert verdict.status == "passed", verdict
    assert all(torch.equal(weight, before[name]) for name, weight in context.model.named_parameters())


def test_log_probs_are_those_of_the_model_token_by_token(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["dpo full"], pair_rows(3))
    sequences = grouped(context.rendered)
    sides = [segment for row in sequences.segments for segment in row]
    batch = padded([(side.input_ids, side.labels) for side in sides], 0)
    with torch.no_grad():
        sums, counts = log_probs(context.model.eval(), batch)
        for place, side in enumerate(sides):
            logits = context.model(input_ids=torch.tensor([side.input_ids])).logits[0].log_softmax(-1)
            learnt = [at for at, label in enumerate(side.labels) if label >= 0]
            expected = sum(float(logits[at - 1, side.input_ids[at]]) for at in learnt)
            assert float(sums[place]) == pytest.approx(expected, abs=1e-4)
            assert int(counts[place]) == len(learnt)
    table = make_references(context.recipe, context.model, sequences)
    torch.testing.assert_close(table.flatten(), sums, atol=1e-4, rtol=1e-5)


def test_the_fused_head_gives_the_same_log_probs(tmp_path: Path) -> None:
    from trl.trainer.utils import add_fused_lm_head

    context = pairs_context(tmp_path / "run", CASES["dpo full"], pair_rows(3))
    batch = padded([(side.input_ids, side.labels) for row in grouped(context.rendered).segments for side in row], 0)
    with torch.no_grad():
        plain, _ = log_probs(context.model.eval(), batch)
        add_fused_lm_head(context.model)
        fused, _ = log_probs(context.model, batch, fused_head=True)
    torch.testing.assert_close(fused, plain, atol=1e-4, rtol=1e-5)


def test_a_mismatched_answer_is_that_of_the_next_row_behind_the_own_prompt(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["kto marked"], marked_rows(3))
    sequences = grouped(context.rendered)
    for place in range(3):
        own, other = sequences.segments[place][0], sequences.segments[(place + 1) % 3][0]
        found = mismatched(sequences, place, 256)
        assert found.input_ids[: first_trained(own)] == own.input_ids[: first_trained(own)]
        assert found.input_ids[first_trained(own) :] == other.input_ids[first_trained(other) :]
    assert len(mismatched(sequences, 0, 8).input_ids) <= 8


def test_a_row_that_is_repeated_stays_a_pair(tmp_path: Path) -> None:
    row = pair_rows(1)[0]
    context = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(2))
    rendered = Renderer(context.tokenizer, 128, task=Plan.model_validate(context.plan.model_dump()).task).render_rows(
        [row, row, row]
    )
    assert [len(segments) for segments in grouped(rendered).segments] == [2, 2, 2]


def test_the_reference_is_held_against_the_model_before_the_first_step(tmp_path: Path) -> None:
    context = pairs_context(tmp_path / "run", CASES["dpo lora"], pair_rows(12))
    assert context.references is not None
    assert check_reference(context).status == "passed"
    context.references.train[3, 1] += 9.0
    context.references.train[0:1] += 9.0
    assert check_reference(context).status == "warning"
    context.references.train[2, 0] = math.inf
    assert check_reference(context).status == "blocked"
