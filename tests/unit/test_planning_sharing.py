"""How many GPUs a plan takes, and what it says where it cannot take what was asked for."""

from dataclasses import replace
from typing import Any

import pytest

from engine.hardware.devices import Hardware
from engine.planning.plan import Plan
from engine.planning.rehearsal import RehearsalResult
from tests.unit.made_plans import CPU, DATA, GIB, finding, gpu, hub_model, plan, with_gpus

LONG = DATA.model_copy(update={"num_rows": 200_000, "num_train": 180_000, "num_held_out": 500})


def gpus(*free_gib: float, name: str = "H100") -> Hardware:
    made = [
        replace(gpu(80, index=place, uuid=f"GPU-{place}"), name=name, free_bytes=round(free * GIB))
        for place, free in enumerate(free_gib)
    ]
    return with_gpus(*made)


EIGHT = gpus(*[79.0] * 8)


def product(found: Plan) -> int:
    return found.steps.micro_batch * found.steps.accumulation * found.steps.num_gpus


@pytest.mark.parametrize(("batch", "taken"), [(16, 8), (12, 6), (7, 7), (11, 1), (1, 1)])
def test_a_long_run_uses_the_gpus_that_divide_its_batch(batch: int, taken: int) -> None:
    found = plan({"training": {"effective_batch": batch}}, hardware=EIGHT, model=hub_model("Qwen/Qwen3-8B"), data=LONG)
    assert (found.steps.num_gpus, found.recipe.training.num_gpus) == (taken, taken)
    assert product(found) == batch
    assert [other.index for other in found.device.others] == list(range(1, taken))
    assert found.device.names_for_cuda == [f"GPU-{place}" for place in range(taken)]
    assert found.options[0].num_gpus == taken
    assert not found.blocked


def test_sharing_is_told_with_what_it_gains() -> None:
    model = hub_model("Qwen/Qwen3-8B")
    many, one = plan(hardware=EIGHT, model=model, data=LONG), plan(hardware=gpus(79.0), model=model, data=LONG)
    assert many.time is not None
    assert one.time is not None
    assert many.time.expected_s < one.time.expected_s / 2
    assert "instead of" in many.sources["training.num_gpus"].detail
    assert many.recipe.method.name == one.recipe.method.name
    [alone] = [row for row in many.options if row.changes.get("training.num_gpus") == 1]
    assert alone.verdict == "fits"
    assert "slower" in alone.why_not


def test_a_short_run_stays_on_one_gpu() -> None:
    found = plan({"training": {"max_steps": 5}}, hardware=EIGHT, model=hub_model("Qwen/Qwen3-0.6B"), data=LONG)
    assert found.steps.num_gpus == 1
    assert not found.device.others
    assert "less than it takes to start" in found.sources["training.num_gpus"].detail


def test_a_gpu_that_is_full_is_left_out() -> None:
    found = plan(hardware=gpus(79, 79, 1, 78), model=hub_model("Qwen/Qwen3-8B"), data=LONG)
    assert found.steps.num_gpus == 2
    assert found.device.indices == [0, 1]
    four = plan(hardware=gpus(79, 79, 70, 78), model=hub_model("Qwen/Qwen3-8B"), data=LONG)
    assert four.device.indices == [0, 1, 3, 2]
    assert four.memory.available_bytes == 70 * GIB


def test_gpus_of_another_kind_do_not_share() -> None:
    machine = gpus(79, 79)
    mixed = replace(machine, gpus=[machine.gpus[0], replace(machine.gpus[1], name="A100")])
    found = plan(hardware=mixed, model=hub_model("Qwen/Qwen3-8B"), data=LONG)
    assert found.steps.num_gpus == 1
    assert found.sources["training.num_gpus"].detail == "no other GPU like it"


@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_the_person_decides(wanted: int) -> None:
    found = plan({"training": {"num_gpus": wanted}}, hardware=EIGHT, model=hub_model("Qwen/Qwen3-0.6B"))
    assert (found.steps.num_gpus, product(found)) == (wanted, 16)
    assert found.sources["training.num_gpus"].kind == "you"
    assert not found.blocked


@pytest.mark.parametrize(
    ("training", "hardware", "words"),
    [
        ({"num_gpus": 4}, gpus(79, 79), "here is 2 GPUs of one kind"),
        ({"num_gpus": 2}, gpus(79), "here is one GPU"),
        ({"num_gpus": 2}, CPU, "here is no GPU"),
        ({"num_gpus": 3}, EIGHT, "effective batch of 16 cannot be cut evenly for 3 GPUs"),
        ({"num_gpus": 8, "micro_batch": 4}, EIGHT, "cannot be cut evenly for 8 GPUs"),
    ],
)
def test_a_number_that_cannot_be_is_refused(training: dict[str, Any], hardware: Hardware, words: str) -> None:
    found = plan({"training": training}, hardware=hardware, model=hub_model("Qwen/Qwen3-0.6B"))
    assert words in finding(found, "plan.num_gpus").message
    assert found.blocked
    assert found.steps.num_gpus == 1


def test_links_between_gpus_are_part_of_a_rehearsed_estimate() -> None:
    from engine.planning.memory import NCCL_BYTES
    from engine.planning.rehearsed import estimate_from

    result = RehearsalResult(
        key="made",
        num_layers=36,
        device_kind="cuda",
        components={"model weights": 10 * GIB},
        peaks={"training": 10 * GIB},
        peak_phase="training",
        reserved_low_bytes=11 * GIB,
        smallest_card_bytes=11 * GIB,
        cpu_s=1.0,
    )
    many = plan({"training": {"num_gpus": 8}}, hardware=EIGHT, model=hub_model("Qwen/Qwen3-8B"))
    one = plan({"training": {"num_gpus": 1}}, hardware=EIGHT, model=hub_model("Qwen/Qwen3-8B"))
    more = estimate_from(result, many).expected_bytes - estimate_from(result, one).expected_bytes
    assert more == NCCL_BYTES
