"""P23 of classes, tags and rewards: the loss before the first step, with the adapter and without it."""

import math
from typing import Any

import pytest
import torch

from engine.training.context import RunContext
from engine.training.preflight_heads import check_first_label_loss
from engine.training.run import train
from tests.engine.made_runs import loss_curve
from tests.engine.matrix_cells import METHODS, MatrixWorld, context_of

CELLS = [("classification", "encoder"), ("token-classification", "encoder"), ("reward-model", "decoder")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> MatrixWorld:
    return MatrixWorld(tmp_path_factory.mktemp("heads"))


def context_in(world: MatrixWorld, objective: str, kind: Any, method: str = "lora") -> RunContext:
    return context_of(world.new_run(world.plan(objective, kind, METHODS[method])))


@pytest.mark.parametrize(("objective", "kind"), CELLS)
def test_a_new_head_starts_near_guessing_and_the_adapter_at_nothing(
    objective: str, kind: str, world: MatrixWorld
) -> None:
    found = check_first_label_loss(context_in(world, objective, kind))
    assert found.status == "passed", found
    assert found.measured["loss"] == pytest.approx(found.measured["chance"], abs=0.2)
    assert found.measured["base_loss"] == pytest.approx(found.measured["loss"], rel=1e-5)
    assert "The adapter starts as the base model." in found.message


@pytest.mark.parametrize(("objective", "kind"), CELLS)
def test_an_adapter_that_changes_the_start_is_told(objective: str, kind: str, world: MatrixWorld) -> None:
    context = context_in(world, objective, kind)
    with torch.no_grad():
        for name, weight in context.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    found = check_first_label_loss(context)
    assert found.status == "warning"
    assert "changes the model before the first step" in found.message


def test_a_loss_that_is_no_number_blocks(world: MatrixWorld) -> None:
    context = context_in(world, "classification", "encoder", "full")
    with torch.no_grad():
        context.model.classifier.weight[0, 0] = math.nan
    assert check_first_label_loss(context).status == "blocked"


def test_the_look_leaves_no_trace(world: MatrixWorld) -> None:
    curves = []
    for look in (False, True):
        context = context_in(world, "token-classification", "encoder")
        if look:
            check_first_label_loss(context)
        train(context)
        curves.append(loss_curve(context.run))
    assert curves[0] == curves[1]
