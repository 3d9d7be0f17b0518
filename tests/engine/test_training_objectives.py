"""What the model learns from: exactly the marked tokens, in whole steps, with packed rows kept apart."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from engine.data.rendered import ListedSequences
from engine.objectives.build import build_trainer, count_steps
from engine.objectives.sequences import IGNORED, Segment, SequenceCollator, Sequences, make_segment, pack
from engine.planning.schedule import rate_share, warmup_steps
from engine.recipe.problems import ProblemError
from engine.training.order import StepOrder
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, loss_curve, made_recipe
from tests.engine.tiny_models import tiny_llama


def segments_of(lengths: list[int]) -> list[Segment]:
    return [make_segment(f"row:{at}", list(range(3, 3 + size)), [1] * size) for at, size in enumerate(lengths)]


@pytest.mark.parametrize("packing", [False, True])
def test_labels_are_the_renderers_mask(tmp_path: Path, packing: bool):
    context = made_context(tmp_path / "run", made_recipe("model", "data", training={"packing": packing}))
    built = build_trainer(context)
    trained = sum(sum(row.trained_mask[1:]) for row in context.rendered.sequences)
    learnt = 0
    for batch in built.trainer.get_train_dataloader():
        labels, ids = batch["labels"], batch["input_ids"]
        assert torch.equal(labels[labels != IGNORED], ids[labels != IGNORED])
        learnt += int((labels != IGNORED).sum())
    assert learnt == trained > 0


def test_rows_without_anything_to_learn_are_refused(tmp_path: Path):
    context = made_context(tmp_path / "run", made_recipe("model", "data"))
    context.rendered.sequences = ListedSequences([])
    with pytest.raises(ProblemError, match="No row is left to train on"):
        build_trainer(context)


@pytest.mark.parametrize(("method", "counts"), [("full", True), ("lora", True), ("full", False)])
def test_eight_micro_batches_of_one_are_one_of_eight(
    method: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # Some models' own loss takes no number of items, and is a mean over the micro-batch.
    monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", counts, raising=False)
    curves = []
    for micro_batch in (8, 1, 2):
        training = {"effective_batch": 8, "micro_batch": micro_batch, "epochs": 2.0, "packing": False}
        recipe = made_recipe("model", "data", objective="domain-adaptation", training=training, method={"name": method})
        context = made_context(tmp_path / f"by-{micro_batch}", recipe, num_rows=20)
        # Else a mean of means would be right too.
        assert len(set(context.rendered.sequences.num_learnt)) > 3
        train(context)
        curves.append(loss_curve(context.run))
    # 20 rows are two whole steps and one of four rows per epoch.
    assert list(curves[0]) == [1, 2, 3, 4, 5, 6]
    assert curves[1] == pytest.approx(curves[0], rel=2e-4)
    assert curves[2] == pytest.approx(curves[0], rel=2e-4)


def test_packed_and_unpacked_rows_give_the_same_loss(tmp_path: Path):
    curves = []
    for packing in (False, True):
        training = {"packing": packing, "effective_batch": 64, "micro_batch": 16, "max_steps": 3}
        recipe = made_recipe("model", "data", objective="domain-adaptation", training=training)
        context = made_context(tmp_path / str(packing), recipe, num_rows=30)
        train(context)
        curves.append(loss_curve(context.run))
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)


def test_packed_segments_do_not_see_each_other():
    model = tiny_llama(64).eval()
    first, second = list(range(3, 12)), list(range(20, 33))
    collator = SequenceCollator(pad_token_id=0, packed=True)

    def logits_of_second(first_ids: list[int]) -> torch.Tensor:
        pieces = [[make_segment("a", first_ids, [1] * 9), make_segment("b", second, [1] * 13)], segments_of([30])]
        batch = collator([dict(row) for row in Sequences(pieces).dataset()])
        with torch.no_grad():
            # As the trainer calls it: with a cache, transformers would not look for restarts of the positions.
            logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        return logits[0, 9:22]

    undisturbed = logits_of_second(first)
    assert torch.equal(logits_of_second(first[::-1]), undisturbed)
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([second])).logits[0]
    torch.testing.assert_close(undisturbed, alone, atol=1e-5, rtol=1e-5)


def test_no_segment_predicts_its_first_token_from_another():
    batch = SequenceCollator(0, packed=True)([dict(row) for row in Sequences([segments_of([4, 3])]).dataset()])
    assert batch["labels"][0].tolist() == [IGNORED, 4, 5, 6, IGNORED, 4, 5]
    assert batch["position_ids"][0].tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_packing_keeps_every_segment_whole_and_wastes_little():
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(2, 65, (400,), generator=generator).tolist()
    order, bounds = pack(lengths, 64)
    bins = np.split(order, bounds[1:-1])
    assert sorted(order) == list(range(400))
    assert max(sum(lengths[place] for place in each) for each in bins) <= 64
    assert len(bins) <= math.ceil(sum(lengths) / 64 * 1.03)


def test_order_shows_every_row_once_per_epoch_in_whole_steps():
    lengths = [5 + at % 7 for at in range(22)]
    order = StepOrder(lengths, effective_batch=4, micro_batch=3, seed=1)
    assert order.steps_per_epoch == 6
    epochs = []
    for epoch in range(2):
        order.epoch = epoch
        batches = list(order)
        assert len(batches) == len(order)
        epochs.append([row for batch in batches for row in batch])
        assert sorted(epochs[-1]) == list(range(22))
    assert epochs[0] != epochs[1]
    other = StepOrder(lengths, effective_batch=4, micro_batch=1, seed=1)
    assert [other.rows_of_step(step) for step in range(12)] == [order.rows_of_step(step) for step in range(12)]
    assert [lengths[row] for row in order.rows_of_step(3)] == sorted(lengths[r] for r in order.rows_of_step(3))[::-1]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_frozen_weights_stay_and_learning_ones_move(method: str, tmp_path: Path):
    recipe = made_recipe("model", "data", method={"name": method}, training={"max_steps": 3})
    context = made_context(tmp_path / "run", recipe)
    before = {name: parameter.detach().clone() for name, parameter in context.model.named_parameters()}
    train(context)
    for name, parameter in context.model.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name


def test_activation_checkpointing_changes_nothing(tmp_path: Path):
    curves = []
    for checkpointing in (False, True):
        recipe = made_recipe("model", "data", training={"activation_checkpointing": checkpointing, "max_steps": 4})
        context = made_context(tmp_path / str(checkpointing), recipe)
        train(context)
        recomputing = [module for module in context.model.modules() if getattr(module, "gradient_checkpointing", False)]
        assert bool(recomputing) is checkpointing
        curves.append(loss_curve(context.run))
    assert curves[0] == pytest.approx(curves[1], rel=1e-6)


def test_the_recipe_reaches_the_trainer(tmp_path: Path):
    training = {
        "learning_rate": 3e-3,
        "schedule": "linear",
        "warmup": 0.5,
        "weight_decay": 0.25,
        "max_grad_norm": 0.5,
        "max_steps": 4,
        "optimizer": "adamw_8bit",
        "seed": 5,
    }
    built = build_trainer(made_context(tmp_path / "run", made_recipe("model", "data", training=training)))
    settings = built.trainer.args
    assert (settings.learning_rate, settings.weight_decay, settings.max_grad_norm) == (3e-3, 0.25, 0.5)
    assert (settings.max_steps, settings.seed) == (4, 5)
    assert [built.trainer.rate_share(step) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5])
    assert settings.optim == "adamw_8bit"
    assert settings.logging_nan_inf_filter is False
    assert settings.save_strategy == "no"


def test_learning_rate_follows_the_schedule(tmp_path: Path):
    rates = {}
    for schedule in ("constant", "linear", "cosine"):
        training = {"schedule": schedule, "warmup": 0.0, "max_steps": 4, "learning_rate": 1e-3}
        context = made_context(tmp_path / schedule, made_recipe("model", "data", training=training))
        train(context)
        rates[schedule] = [event["learning_rate"] for event in events_of(context.run, "step.logged")]
    assert rates["constant"] == [1e-3] * 4
    assert rates["linear"] == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    assert rates["cosine"] == pytest.approx([5e-4 * (1 + math.cos(math.pi * step / 4)) for step in range(4)])


def test_steps_and_warm_up_are_counted():
    training = made_recipe("model", "data", training={"epochs": 0.1}).training
    assert count_steps(training, 30) == 3
    assert count_steps(training.model_copy(update={"epochs": 2.5}), 5) == 13
    assert count_steps(training.model_copy(update={"max_steps": 7}), 30) == 7
    assert [warmup_steps(0.03, steps) for steps in (1, 2, 12, 100)] == [0, 1, 1, 3]
    assert warmup_steps(0.07, 100) == 7


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize(("warmup", "total_steps"), [(0, 1), (1, 2), (1, 12), (5, 12), (30, 1000)])
def test_every_step_learns_and_the_warm_up_ends_at_the_full_rate(schedule: str, warmup: int, total_steps: int):
    shares = [
        rate_share(step, schedule=schedule, warmup_steps=warmup, total_steps=total_steps) for step in range(total_steps)
    ]
    assert min(shares) > 0.0
    assert shares[warmup] == max(shares) == 1.0
    assert shares[: warmup + 1] == sorted(shares[: warmup + 1])
    assert shares[warmup:] == sorted(shares[warmup:], reverse=True)


def test_no_step_of_a_warm_up_is_without_a_learning_rate(tmp_path: Path):
    training = {"warmup": 0.5, "max_steps": 4}
    context = made_context(tmp_path / "run", made_recipe("model", "data", training=training))
    train(context)
    rates = [event["learning_rate"] for event in events_of(context.run, "step.logged")]
    assert rates == pytest.approx([5e-3 / 3, 1e-2 / 3, 5e-3, 2.5e-3])


def test_the_trainer_is_used_without_deprecated_names(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    training = {"activation_checkpointing": True, "max_steps": 1}
    context = made_context(tmp_path / "run", made_recipe("model", "data", training=training))
    recwarn.clear()
    train(context)
    assert not [str(warning.message) for warning in recwarn if "is deprecated" in str(warning.message)]
