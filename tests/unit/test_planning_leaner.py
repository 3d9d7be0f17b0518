"""Where a deeper look shows that a plan took too much at once, it takes less by itself; what somebody set stays."""

from dataclasses import replace
from typing import Any

import pytest

from engine.planning.findings import fits
from engine.planning.leaner import leaner
from engine.planning.plan import Plan
from engine.planning.planner import with_memory
from tests.unit.made_plans import codes, gpu, hub_model, plan, with_gpus

NAME = "Qwen/Qwen3-0.6B"


def looked_at(found: Plan, high_factor: float = 1.15) -> Plan:
    """Return a plan whose rehearsal came out a little above the formula, and above what is free."""
    memory = found.memory
    assert memory.available_bytes is not None
    high = max(round(memory.high_bytes * high_factor), memory.available_bytes + 1)
    deeper = memory.model_copy(update={"depth": "simulated", "basis": "rehearsal", "high_bytes": high})
    return with_memory(found, deeper)


def made(training: dict[str, Any] | None = None, gib: float = 6, **method: Any) -> Plan:
    you = {"method": {"name": "lora", **method}, "training": training or {}}
    return plan(you, hardware=with_gpus(gpu(gib)), model=hub_model(NAME))


def test_a_smaller_cut_is_taken_and_the_effective_batch_stays() -> None:
    before = looked_at(made())
    after = leaner(before)
    assert "memory.does_not_fit" in codes(before)
    assert after is not None
    assert fits(after.memory)
    assert after.recipe.training.micro_batch == after.steps.micro_batch
    assert after.recipe.training.effective_batch == before.recipe.training.effective_batch
    assert after.steps.micro_batch * after.steps.accumulation == after.recipe.training.effective_batch
    assert (after.steps.micro_batch, after.recipe.training.activation_checkpointing) != (
        before.steps.micro_batch,
        before.recipe.training.activation_checkpointing,
    )
    assert "memory.does_not_fit" not in codes(after)


def test_every_changed_value_says_why() -> None:
    before = looked_at(made())
    after = leaner(before)
    assert after is not None
    old, new = before.recipe.training.model_dump(), after.recipe.training.model_dump()
    changed = {f"training.{name}" for name in new if new[name] != old[name]}
    assert changed
    for path in changed:
        assert after.sources[path].kind == "derived"
        assert "deeper look" in after.sources[path].detail


@pytest.mark.parametrize("fixed", [{"micro_batch": 4}, {"activation_checkpointing": False}])
def test_what_somebody_set_stays(fixed: dict[str, Any]) -> None:
    before = looked_at(made(fixed))
    after = leaner(before)
    if after is not None:
        ((name, value),) = fixed.items()
        assert getattr(after.recipe.training, name) == value


def test_nothing_is_left_where_everything_was_set() -> None:
    everything = {"micro_batch": 4, "activation_checkpointing": True, "optimizer": "adamw"}
    assert leaner(looked_at(made(everything))) is None


@pytest.mark.parametrize("installed", [True, False])
def test_smaller_states_are_taken_only_where_they_can_run(installed: bool) -> None:
    libraries = {"torch": "2.13.0"} | ({"bitsandbytes": "0.50.2"} if installed else {})
    hardware = replace(with_gpus(gpu(14)), libraries=libraries)
    alone = {"micro_batch": 1, "activation_checkpointing": True}
    found = plan({"method": {"name": "full"}, "training": alone}, hardware=hardware, model=hub_model(NAME))
    assert found.recipe.training.optimizer == "adamw"
    after = leaner(looked_at(found, 1.4))
    assert (after.recipe.training.optimizer if after else None) == ("paged_adamw_8bit" if installed else None)


def test_no_way_is_offered_that_could_not_run() -> None:
    bare = replace(with_gpus(gpu(6)), libraries={"torch": "2.13.0"})
    asked = {"method": {"name": "full"}, "training": {"max_length": 300}}
    found = plan(asked, hardware=bare, model=hub_model("Qwen/Qwen3-1.7B"))
    assert found.ways
    for way in found.ways:
        base = way.changes.get("model.base", "Qwen/Qwen3-1.7B")
        name = way.changes.get("method.name", "full")
        limits = {path.partition(".")[2]: value for path, value in way.changes.items() if path.startswith("training.")}
        taken = plan({"method": {"name": name}, "training": limits}, hardware=bare, model=hub_model(base))
        assert "plan.bitsandbytes_missing" not in codes(taken), way.title
        assert not taken.blocked, way.title


def test_a_plan_that_fits_is_left_alone() -> None:
    assert leaner(made()) is None


def test_the_cuts_end() -> None:
    current: Plan | None = looked_at(made())
    seen: list[tuple[int, bool | None, str | None]] = []
    while current is not None:
        training = current.recipe.training
        seen.append((current.steps.micro_batch, training.activation_checkpointing, training.optimizer))
        current = leaner(looked_at(current))
    assert len(seen) == len(set(seen))


def test_ways_hold_when_they_are_looked_at_as_deep() -> None:
    """The range of a deeper look is wider than the formula's: a way is promised with that range."""
    asked = {"name": "qlora", "rank": 16}
    card, model = with_gpus(gpu(7.75)), hub_model("Qwen/Qwen3-8B")
    found = plan({"method": asked}, hardware=card, model=model)
    deeper = looked_at(found, 1.1)
    free = deeper.memory.available_bytes or 0
    factor = deeper.memory.high_bytes / found.memory.high_bytes
    assert deeper.ways
    for way in deeper.ways:
        assert way.memory.high_bytes <= free
        if set(way.changes) == {"training.max_length"}:
            shorter = {"max_length": way.changes["training.max_length"], "micro_batch": 1}
            alone = plan({"method": asked, "training": shorter}, hardware=card, model=model)
            assert factor * alone.memory.high_bytes <= 1.001 * free
