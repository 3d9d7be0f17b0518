"""The first look at a base model agrees with the plan that is made later, and refuses only what no data would fit."""

from dataclasses import replace

import pytest

from engine.hardware.devices import Hardware
from engine.hardware.readings import Unavailable
from engine.planning.first_look import look
from engine.planning.plan import Plan
from tests.unit.made_plans import CPU, gpu, hub_model, plan, with_gpus
from tui.engine_backend import EngineBackend, machine_of

MODELS = ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B")
MACHINES = {"cpu": CPU, "4": with_gpus(gpu(4)), "8": with_gpus(gpu(8)), "24": with_gpus(gpu(24))}


def fits(found: Plan) -> bool:
    return found.memory.high_bytes <= (found.memory.available_bytes or 0)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", MODELS)
def test_what_the_first_look_promises_the_plan_keeps(machine: str, name: str) -> None:
    found = look(hub_model(name), MACHINES[machine])
    assert found is not None
    rows = {"max_length": 512 if found.method else 64, "effective_batch": 1}
    tried = {
        method: fits(
            plan({"method": {"name": method}, "training": rows}, hardware=MACHINES[machine], model=hub_model(name))
        )
        for method in ("full", "lora", "qlora")
    }
    if found.method is not None:
        assert tried[found.method]
    if found.hopeless:
        assert not any(tried.values())


def test_more_memory_never_fits_less() -> None:
    order = ("full", "lora", "qlora", None)
    for name in MODELS:
        methods = [look(hub_model(name), with_gpus(gpu(gib))) for gib in (2, 4, 6, 8, 12, 16, 24, 48, 80)]
        places = [order.index(found.method) for found in methods if found is not None]
        assert places == sorted(places, reverse=True)


def test_what_needs_a_library_is_not_promised_without_it() -> None:
    whole = with_gpus(gpu(10))
    bare = replace(whole, libraries={"torch": "2.13.0"})
    found = [look(hub_model("Qwen/Qwen3-0.6B"), machine) for machine in (whole, bare)]
    assert [item.method for item in found if item] == ["full", "lora"]


def test_unknown_memory_gives_no_answer() -> None:
    silent = gpu(24, free_bytes=Unavailable("not supported"))
    assert look(hub_model("Qwen/Qwen3-8B"), with_gpus(silent)) is None


def test_a_gpu_that_torch_cannot_use_is_not_what_a_run_takes() -> None:
    hardware: Hardware = replace(with_gpus(gpu(80)), torch_cuda=Unavailable("built for the CPU"))
    machine = machine_of(hardware)
    assert machine.where == "host RAM"
    assert machine.training_bytes == hardware.host.ram_available_bytes
    offers = {offer.reference: offer for offer in EngineBackend().model_offers(machine)}
    assert offers["Qwen/Qwen3-8B"].fit == "does not fit"
    assert "of host RAM is free" in offers["Qwen/Qwen3-8B"].blocked
    assert offers["Qwen/Qwen3-0.6B"].fit == "fits, even full"
