"""Gates in the first steps: the cut of a step, what moves and what stays, what an adapter does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.data.preflight_case import Verdict
from engine.objectives.build import build_trainer
from engine.recipe.problems import ProblemError
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.preflight_chance import check_first_loss, judge_start
from engine.training.preflight_gradients import check_accumulation, judge_cuts
from engine.training.preflight_steps import Movement, bit_sum, check_effect
from engine.training.run import train
from engine.training.trainer import RunTrainer
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, made_recipe

FULL = {"name": "full", "rank": None, "alpha": None, "dropout": None, "targets": None}


def context_of(folder: Path, *, method: dict[str, Any] | None = None, **training: Any) -> RunContext:
    usual = {"max_steps": 4, "micro_batch": 2}
    return made_context(folder, made_recipe("model", "data", method=method or {}, training=usual | training))


def checks(context: RunContext) -> dict[str, tuple[str, str]]:
    return {event["id"]: (event["status"], event["message"]) for event in events_of(context.run, "preflight.checked")}


def state_of(context: RunContext) -> dict[str, Any]:
    weights = {name: weight.detach().clone() for name, weight in context.model.named_parameters()}
    return {
        "weights": weights,
        "modes": [module.training for module in context.model.modules()],
        "random": torch.get_rng_state(),
    }


# --- P9 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [{}, {"dropout": 0.3}, FULL], ids=["lora", "dropout", "full"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_installed_trainer_cuts_a_step_without_a_trace(
    tmp_path: Path, method: dict[str, Any], precision: str
) -> None:
    context = context_of(tmp_path / "run", method=method, precision=precision)
    before = state_of(context)
    found = check_accumulation(context)
    assert found.status == "passed", found.message
    assert found.measured["gradient_difference"] < (1e-4 if precision == "float32" else 6e-2)
    after = state_of(context)
    assert all(torch.equal(weight, after["weights"][name]) for name, weight in before["weights"].items())
    assert before["modes"] == after["modes"]
    assert torch.equal(before["random"], after["random"])
    assert all(weight.grad is None for weight in context.model.parameters())
    assert "train" not in context.model.__dict__


def test_smoothed_labels_and_packed_text_are_cut_without_a_trace(tmp_path: Path) -> None:
    smoothed = check_accumulation(context_of(tmp_path / "smoothed", label_smoothing=0.2))
    assert smoothed.status == "passed", smoothed.message
    packed = made_recipe("model", "data", objective="domain-adaptation", training={"packing": True, "micro_batch": 2})
    found = check_accumulation(made_context(tmp_path / "packed", packed))
    assert found.status == "passed", found.message


class _MeanOfMeans:
    """The defect of transformers#34191: each micro-batch is divided by its own tokens."""

    def __call__(self, trainer: Any, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        labels = inputs["labels"]
        logits = model(**{**inputs, "use_cache": False}).logits[:, :-1].flatten(0, 1)
        loss: torch.Tensor = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100)
        return loss / trainer.current_gradient_accumulation_steps


class _Halved:
    """The defect of a divisor that is applied twice where a step is cut."""

    def __call__(self, trainer: Any, *arguments: Any, **keywords: Any) -> torch.Tensor:
        return _COMPUTE(trainer, *arguments, **keywords) / trainer.current_gradient_accumulation_steps


_COMPUTE = RunTrainer.compute_loss


@pytest.mark.parametrize("defect", [_MeanOfMeans(), _Halved()], ids=["mean of means", "divided twice"])
def test_a_loss_that_depends_on_the_cut_blocks_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defect: Any
) -> None:
    monkeypatch.setattr(RunTrainer, "compute_loss", lambda *a, **k: defect(*a, **k))
    found = check_accumulation(context_of(tmp_path / "run"))
    assert found.status == "blocked"
    assert found.measured["gradient_difference"] > 0.02
    assert found.rows
    whole = check_accumulation(context_of(tmp_path / "whole", micro_batch=4))
    assert whole.status == "warning", "a run whose steps are not cut may train all the same"


def test_a_difference_is_held_against_the_number_format() -> None:
    one, other = [torch.ones(4)], [torch.tensor([1.0, 1.0, 1.0, 1.03])]
    for precision, status in (("float32", "blocked"), ("bfloat16", "passed")):
        assert judge_cuts([(1.0, one), (1.0, other)], precision, ["a:1"], Batching(1, 4)).status == status
    assert judge_cuts([(1.0, one), (1.1, one)], "float32", ["a:1"], Batching(1, 4)).status == "blocked"
    nothing = [torch.zeros(4)]
    assert judge_cuts([(1.0, nothing), (1.0, nothing)], "float32", [], Batching(1, 4)).status == "skipped"


def test_rows_that_are_too_long_or_too_few_are_not_compared(tmp_path: Path) -> None:
    few = made_context(tmp_path / "run", made_recipe("model", "data", training={"micro_batch": 2}), num_rows=2)
    assert check_accumulation(few).status == "skipped"


# --- P23 --------------------------------------------------------------------------------------------------------------


def test_an_adapter_starts_as_the_base_model(tmp_path: Path) -> None:
    context = context_of(tmp_path / "run")
    found = check_first_loss(context)
    assert found.status == "passed"
    assert "starts as the base model" in found.message or "random" in found.message
    assert found.measured["base_loss"] == pytest.approx(found.measured["loss"], rel=1e-5)


def test_an_adapter_that_changes_the_model_before_the_first_step_is_told(tmp_path: Path) -> None:
    context = context_of(tmp_path / "run")
    with torch.no_grad():
        for name, weight in context.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    found = check_first_loss(context)
    assert found.status == "warning"
    assert "before the first step" in found.message


def test_full_fine_tuning_has_no_adapter_to_compare(tmp_path: Path) -> None:
    assert "base_loss" not in check_first_loss(context_of(tmp_path / "run", method=FULL)).measured


@pytest.mark.parametrize(("loss", "status"), [(2.0, "passed"), (2.001, "passed"), (2.1, "warning")])
def test_the_start_is_held_against_the_base(loss: float, status: str) -> None:
    assert judge_start(Verdict("passed", "Fine.", measured={}), loss, 2.0, ["a:1"]).status == status


# --- P29 to P31 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [{}, FULL], ids=["lora", "full"])
def test_a_sound_run_passes_every_gate(tmp_path: Path, method: dict[str, Any]) -> None:
    context = context_of(tmp_path / "run", method=method)
    train(context)
    found = checks(context)
    assert found["P29"][0] == found["P31"][0] == "passed"
    assert found["P30"][0] == ("skipped" if method else "passed")
    assert [event["id"] for event in events_of(context.run, "preflight.checked")].count("P31") == 2


def test_preflight_off_leaves_the_gates_out(tmp_path: Path) -> None:
    context = context_of(tmp_path / "run", preflight="off")
    train(context)
    assert checks(context) == {}


def spoil_each_step(monkeypatch: pytest.MonkeyPatch, spoil: Any) -> None:
    """Plant a defect that acts with each micro-step."""
    original = RunTrainer.training_step

    def spoiled(self: Any, *arguments: Any, **keywords: Any) -> Any:
        loss = original(self, *arguments, **keywords)
        spoil(self.model)
        return loss

    monkeypatch.setattr(RunTrainer, "training_step", spoiled)


STAGES = {"name": "gradual-unfreezing", "unfreeze_every": 3, "rank": None, "alpha": None, "dropout": None}


def test_what_waits_for_its_stage_is_looked_at_as_frozen(tmp_path: Path) -> None:
    context = context_of(tmp_path / "run", method=STAGES | {"targets": None})
    train(context)
    told = [event for event in events_of(context.run, "preflight.checked") if event["id"] == "P31"]
    assert [event["status"] for event in told] == ["passed", "passed"]
    assert told[0]["measured"]["frozen"] > 0


@pytest.mark.parametrize("method", [{}, STAGES | {"targets": None}], ids=["lora", "stages"])
def test_a_frozen_weight_that_moves_ends_the_run(
    method: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touch_base(model: nn.Module) -> None:
        with torch.no_grad():
            next(weight for name, weight in model.named_parameters() if "embed_tokens" in name)[0, 0] += 1e-3

    spoil_each_step(monkeypatch, touch_base)
    with pytest.raises(ProblemError) as caught:
        train(context_of(tmp_path / "run", method=method))
    assert caught.value.problems[0].code == "preflight.p31"
    assert "embed_tokens" in caught.value.problems[0].message


def test_weights_that_do_not_move_at_all_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_gradients(model: nn.Module) -> None:
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.zero_()

    spoil_each_step(monkeypatch, drop_gradients)
    with pytest.raises(ProblemError) as caught:
        train(context_of(tmp_path / "run"))
    assert caught.value.problems[0].code == "preflight.p29"


def test_a_single_tensor_that_does_not_move_is_named_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop_one(model: nn.Module) -> None:
        name, weight = next((n, w) for n, w in model.named_parameters() if "lora_B" in n and "q_proj" in n)
        if weight.grad is not None:
            weight.grad.zero_()

    spoil_each_step(monkeypatch, drop_one)
    context = context_of(tmp_path / "run")
    train(context)
    status, message = checks(context)["P29"]
    assert status == "warning"
    assert "q_proj" in message


def test_an_adapter_without_effect_is_told(tmp_path: Path) -> None:
    context = context_of(tmp_path / "run")
    built = build_trainer(context)
    assert check_effect(context.model, built.sequences).status == "warning", "before the first step there is none"
    with torch.no_grad():
        for name, weight in context.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    assert check_effect(context.model, built.sequences).status == "passed"


def test_a_sum_over_bits_sees_one_number_and_an_exchange() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.uint8, torch.int8, torch.float64):
        tensor = torch.arange(1, 1001).to(dtype)
        changed, exchanged = tensor.clone(), tensor.clone()
        changed[500] = 3
        exchanged[[3, 4]] = tensor[[4, 3]]
        assert bit_sum(tensor) == bit_sum(tensor.clone())
        assert bit_sum(tensor) != bit_sum(changed)
        assert bit_sum(tensor) != bit_sum(exchanged)
    assert bit_sum(torch.zeros(0)) == 0


def test_every_tensor_of_a_large_layer_is_sampled_over_its_whole_length() -> None:
    layer = nn.Linear(2000, 500, bias=False).requires_grad_(False)
    movement = Movement(layer)
    assert movement.frozen_stayed().status == "passed"
    with torch.no_grad():
        layer.weight *= 1.01
    assert movement.frozen_stayed().status == "blocked"
