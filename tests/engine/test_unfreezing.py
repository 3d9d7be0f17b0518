"""Gradual unfreezing: from the top down, each weight in one stage, and a stopped run goes on bit for bit."""

from pathlib import Path

import pytest
import torch

from engine.methods.apply import apply_method, rate_factors
from engine.methods.gradual_unfreezing import Unfreezing, stages_of
from engine.objectives.build import build_trainer
from engine.recipe.schema import Recipe
from engine.training.interrupt import StopRequested
from engine.training.preflight_learning import check_coverage, check_what_learns
from engine.training.run import train
from tests.engine.made_context import made_context
from tests.engine.made_runs import events_of, loss_curve, made_recipe
from tests.engine.test_bottleneck import IDS
from tests.engine.test_training_resume import last_weights, stop_after
from tests.engine.tiny_families import tiny

LABELS = {"labels": torch.tensor([0, 1])}


def recipe(**method) -> Recipe:
    return made_recipe("m", "d", method={"name": "gradual-unfreezing", "unfreeze_every": 3} | method)


def titles(model, **method) -> list[str]:
    return [stage.title for stage in stages_of(model, recipe(**method))]


class TestStages:
    @pytest.mark.parametrize(
        ("family", "head"),
        [("llama", "CausalLM"), ("bert", "SequenceClassification"), ("t5", "ConditionalGeneration")],
    )
    @pytest.mark.parametrize("per_stage", [1, 2, 5])
    def test_every_weight_is_in_exactly_one(self, family, head, per_stage):
        model = apply_method(tiny(family, head), recipe())
        stages = stages_of(model, recipe(layers_per_stage=per_stage))
        names = [name for stage in stages for name in stage.names]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert [stage.opens_at for stage in stages] == [3 * place for place in range(len(stages))]

    def test_from_the_top_down(self):
        assert titles(tiny("bert", "SequenceClassification")) == [
            "output layer", "block 3", "block 2", "block 1", "embeddings",
        ]  # fmt: skip
        assert titles(tiny("t5", "ConditionalGeneration"), layers_per_stage=2) == [
            "last norm, decoder block 2 and decoder block 1", "encoder block 2 and encoder block 1", "embeddings",
        ]  # fmt: skip

    def test_a_head_of_norms_takes_the_top_blocks_along(self):
        assert titles(tiny("gpt2"))[0] == "last norm and block 3"
        assert titles(tiny("llama"))[0] == "output layer"

    def test_six_stages_of_blocks_where_nobody_says_how_many(self):
        found = titles(tiny("llama", num_hidden_layers=24))
        assert len(found) == 1 + 6 + 1
        assert found[1] == "block 24, 2 more and block 21"


class TestUnfreezing:
    def test_what_is_closed_neither_moves_nor_has_a_state_nor_decays(self):
        model = apply_method(tiny("bert", "SequenceClassification"), recipe()).train()
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
        unfreezing = Unfreezing(model, stages_of(model, recipe()))
        opened = []
        for step in range(7):
            opened += [(step, stage.number) for stage in unfreezing.go_to(step)]
            model(input_ids=IDS, **LABELS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        assert opened == [(0, 1), (3, 2), (6, 3)]
        open_names = {name for stage in unfreezing.stages[:3] for name in stage.names}
        for name, weight in model.named_parameters():
            assert torch.equal(before[name], weight) is (name not in open_names), name
            assert (weight in optimizer.state) is (name in open_names), name
        assert unfreezing.num_learning == sum(dict(model.named_parameters())[name].numel() for name in open_names)
        steps = {int(state["step"]) for state in optimizer.state.values()}
        assert steps == {7, 4, 1}

    def test_it_can_go_back_and_open_all(self):
        model = apply_method(tiny("llama"), recipe())
        unfreezing = Unfreezing(model, stages_of(model, recipe()))
        unfreezing.go_to(100)
        assert unfreezing.num_learning == unfreezing.num_weights == model.num_parameters()
        model(input_ids=IDS, labels=IDS).loss.backward()
        unfreezing.go_to(0)
        assert {name for name, weight in model.named_parameters() if weight.grad is not None} == {
            name for name, weight in model.named_parameters() if weight.requires_grad
        }
        unfreezing.open_all()
        assert all(weight.requires_grad for weight in model.parameters())


def test_each_block_learns_at_a_share_of_the_rate_above_it(tmp_path: Path):
    model = apply_method(tiny("llama"), recipe())
    factors = rate_factors(model, recipe(rate_decay=0.5))
    assert factors["model.layers.2.mlp.up_proj.weight"] == 0.5
    assert factors["model.layers.0.mlp.up_proj.weight"] == 0.125
    assert factors["model.embed_tokens.weight"] == 0.0625
    assert "lm_head.weight" not in factors
    assert rate_factors(model, recipe(rate_decay=1.0)) == {}

    method = {"name": "gradual-unfreezing", "unfreeze_every": 1, "layers_per_stage": 1, "rate_decay": 0.5}
    built = build_trainer(made_context(tmp_path / "run", made_recipe("model", "data", method=method)))
    trainer = built.trainer
    trainer.create_optimizer_and_scheduler(built.total_steps)
    optimizer = trainer.optimizer
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: rates[id(parameter)] for name, parameter in trainer.model.named_parameters()}
    peak = trainer.rate_share(0) * 5e-3
    assert named["model.norm.weight"] == peak
    assert named["model.layers.1.mlp.up_proj.weight"] == peak / 2
    assert named["model.embed_tokens.weight"] == peak / 8
    assert trainer.lr_scheduler.get_last_lr()[0] == peak


RESUMED = {
    "before the first of two boundaries, with rates of their own": ({"max_steps": 9}, {"rate_decay": 0.5}, 2),
    "between two boundaries, in the middle of a step": ({"max_steps": 9, "micro_batch": 2}, {}, 9),
    "exactly on a boundary, which the stopped attempt has told of": ({"max_steps": 8}, {}, 3),
    "after both, with recomputation": ({"max_steps": 8, "activation_checkpointing": True}, {}, 7),
    "with an 8-bit optimizer": ({"max_steps": 8, "optimizer": "adamw_8bit"}, {}, 4),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_stopped_run_goes_on_in_the_stage_that_it_left(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training, method, micro_steps = RESUMED[name]
    method = {"name": "gradual-unfreezing", "unfreeze_every": 3, "layers_per_stage": 1} | method
    chosen = made_recipe("model", "data", training=training, method=method)
    straight = made_context(tmp_path / "straight", chosen)
    train(straight)
    with monkeypatch.context() as patch:
        stop_after(patch, micro_steps)
        with pytest.raises(StopRequested):
            train(made_context(tmp_path / "stopped", chosen))
    resumed = made_context(tmp_path / "stopped", chosen)
    assert resumed.checkpoint is not None
    before = last_weights(tmp_path / "stopped")
    train(resumed)

    assert loss_curve(resumed.run) == loss_curve(straight.run)
    expected, found = last_weights(tmp_path / "straight"), last_weights(tmp_path / "stopped")
    assert before.keys() == expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    for run in (straight.run, resumed.run):
        opened = [(event["step"], event["title"]) for event in events_of(run, "stage.opened")]
        assert opened == [(0, "last norm and block 2"), (3, "block 1"), (6, "embeddings")]
        codes = [event["code"] for event in events_of(run, "notice.raised")]
        assert codes.count("training.stage_opened") == 3
    told = [event["message"] for event in events_of(straight.run, "notice.raised")]
    assert any(text.startswith("Stage 2 of 3 opens with step 4: block 1; now") for text in told)
    assert all(weight.requires_grad for weight in resumed.model.parameters())


@pytest.mark.parametrize(("every", "status"), [(3, "passed"), (4, "warning")])
def test_preflight_tells_when_the_last_stage_opens(every, status, tmp_path: Path):
    method = {"name": "gradual-unfreezing", "unfreeze_every": every, "layers_per_stage": 1}
    context = made_context(tmp_path / "run", made_recipe("model", "data", method=method, training={"max_steps": 8}))
    verdict = check_what_learns(context)
    assert verdict.status == status
    assert f"3 stages from the top, the last opens with step {2 * every + 1}." in verdict.message
    assert check_coverage(context).message == "Every weight learns; there are no adapters."
