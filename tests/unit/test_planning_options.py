"""The ranked table, the ways, the lengths, and plans that are thought over with a deeper estimate."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog.base_models import find_base_model
from engine.catalog.methods import AUTOMATIC, METHOD_NAMES
from engine.hardware.devices import Hardware
from engine.planning.calibration import Calibration, MachineKey
from engine.planning.capabilities import CAPABILITIES, RUNNABLE_STRATEGIES, Surroundings, reason_against
from engine.planning.case import case_of, setup_of
from engine.planning.memory import estimate_memory
from engine.planning.plan import Device, Machine, MemoryEstimate, Plan, PlanOption
from engine.planning.planner import make_plan, with_memory
from engine.recipe.read import set_value
from engine.recipe.sources import lay, unflatten
from engine.recipe.values import change_words
from engine.text import human_bytes
from tests.unit.made_plans import (
    CPU,
    DATA,
    GIB,
    HOME,
    LENGTHS,
    TEXT,
    codes,
    finding,
    gpu,
    hub_model,
    plan,
    tiny,
    with_gpus,
)


def many_gpus(count: int, gib: float = 80) -> Hardware:
    return with_gpus(*(gpu(gib, index=place, uuid=f"GPU-{place}") for place in range(count)))


MACHINES = {"cpu": CPU, "one": with_gpus(gpu(24)), "small": with_gpus(gpu(8)), "eight": many_gpus(8)}
ASKED: list[dict[str, Any]] = [
    {},
    {"method": {"name": "lora"}},
    {"method": {"name": "qlora", "rank": 8}, "training": {"max_length": 2048}},
    {"method": {"name": "full"}, "training": {"micro_batch": 2}},
    {"training": {"activation_checkpointing": False, "effective_batch": 12}},
]


def option(found: Plan, title: str) -> PlanOption:
    return next(row for row in found.options if row.title.startswith(title))


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B"])
def test_the_table_has_five_to_nine_rows_and_the_chosen_one_is_the_plan(machine: str, asked: Any, name: str) -> None:
    found = plan(asked, hardware=MACHINES[machine], model=hub_model(name))
    assert 5 <= sum(not row.folded for row in found.options) <= 9
    assert {row.method for row in found.options} >= {"full", "lora", "qlora"}
    chosen = [row for row in found.options if row.verdict == "chosen"]
    assert chosen == found.options[:1]
    assert chosen[0].changes == {}
    assert chosen[0].memory == found.memory
    assert (chosen[0].micro_batch, chosen[0].accumulation) == (found.steps.micro_batch, found.steps.accumulation)
    assert found.time is not None
    assert chosen[0].time_s == pytest.approx(found.time.expected_s, rel=1e-3)
    assert setup_of(found) == case_of(found).setup
    assert len({row.title for row in found.options}) == len(found.options)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("asked", ASKED)
def test_every_row_but_the_chosen_says_why_not_in_one_sentence(machine: str, asked: Any) -> None:
    found = plan(asked, hardware=MACHINES[machine], model=hub_model("Qwen/Qwen3-4B"))
    for row in found.options:
        fits = row.memory.available_bytes is None or row.memory.high_bytes <= row.memory.available_bytes
        if row.verdict == "chosen":
            assert bool(row.why_not) != fits
            continue
        assert row.why_not.endswith(".")
        assert row.why_not.count(". ") == 0
        assert row.quality
        if row.verdict in ("too_large", "tight"):
            assert not fits
            assert "GiB" in row.why_not
        if row.verdict == "fits":
            assert fits


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B"])
def test_a_row_that_is_taken_becomes_the_plan(machine: str, asked: Any, name: str) -> None:
    found = plan(asked, hardware=MACHINES[machine], model=hub_model(name))
    for row in found.options:
        if row.verdict in ("chosen", "impossible"):
            continue
        tree: dict[str, Any] = {
            "objective": "chat",
            "model": {"base": name},
            "data": {"source": "x/rows.jsonl"},
            **asked,
        }
        for change in change_words(row.changes)[1::2]:
            tree = set_value(tree, change)
        taken = make_plan(lay(tree), MACHINES[machine], hub_model(name), DATA, home=HOME)
        assert taken.memory == row.memory, row.title
        assert [row.method, row.micro_batch, row.optimizer, row.packing, row.activation_checkpointing] == [
            taken.recipe.method.name,
            taken.steps.micro_batch,
            taken.recipe.training.optimizer,
            taken.recipe.training.packing,
            taken.recipe.training.activation_checkpointing,
        ]
        assert {code for code in codes(taken, "error") if not code.startswith("memory.")} == set()


@given(
    batch=st.integers(1, 200),
    gpus=st.integers(0, 9),
    gib=st.sampled_from([6, 16, 24, 80]),
    length=st.integers(8, 4096),
    method=st.sampled_from([None, "full", "lora", "qlora"]),
    packing=st.sampled_from([None, True, False]),
)
@settings(max_examples=60, deadline=None)
def test_the_product_is_the_effective_batch_whatever_is_asked(
    batch: int, gpus: int, gib: float, length: int, method: str | None, packing: bool | None
) -> None:
    you = {"effective_batch": batch, "max_length": length, "packing": packing}
    hardware = many_gpus(gpus, gib) if gpus else CPU
    found = plan({"method": {"name": method}, "training": you}, hardware=hardware, model=hub_model("Qwen/Qwen3-1.7B"))
    assert found.recipe.training.effective_batch == batch
    for row in found.options:
        assert row.micro_batch * row.accumulation * row.num_gpus == batch
        assert row.max_length == length
        assert row.num_gpus <= max(1, gpus)


def test_what_fits_is_ranked_as_the_plan_would_take_it() -> None:
    def fitting(name: str) -> list[str]:
        found = plan({"method": {"name": "qlora"}}, hardware=with_gpus(gpu(80)), model=hub_model(name))
        rows = [row for row in found.options if row.verdict == "fits" and not row.folded]
        return [row.method for row in rows if set(row.changes) == {"method.name"}]

    assert fitting("Qwen/Qwen3-1.7B") == ["lora", "full"]
    assert fitting("HuggingFaceTB/SmolLM2-135M-Instruct") == ["full", "lora"]


def test_what_cannot_run_is_shown_with_its_reason_and_never_recommended() -> None:
    found = plan(hardware=many_gpus(8), model=hub_model())
    shared = [row for row in found.options if row.strategy != "single"]
    assert {row.strategy for row in shared} == {"ddp", "fsdp", "zero3"}
    assert {row.strategy for row in found.options if row.verdict != "impossible"} == set(RUNNABLE_STRATEGIES)
    assert all(row.num_gpus == 8 for row in shared)
    assert all("estimate" in row.why_not for row in shared if row.strategy != "ddp")
    assert option(found, "LoRA, compiled").verdict == "impossible"
    assert "flash-attn" in option(found, "LoRA, FlashAttention").why_not
    ready = replace(with_gpus(gpu(24)), libraries={**CPU.libraries, "flash-attn": "2.8"})
    flash = option(plan(hardware=ready, model=hub_model()), "LoRA, FlashAttention")
    assert flash.verdict == "fits"
    assert flash.changes["training.attention"] == "flash_attention_2"


def test_sharding_needs_less_of_each_gpu() -> None:
    found = plan({"method": {"name": "full"}}, hardware=many_gpus(8), model=hub_model())
    sharded, whole = option(found, "Full, 8 GPUs (FSDP)"), found.options[0]
    assert sharded.memory.expected_bytes < whole.memory.expected_bytes / 2
    assert sharded.time_s is not None
    assert whole.time_s is not None
    assert sharded.time_s < whole.time_s


def test_an_old_gpu_is_told_what_it_cannot_do() -> None:
    old = with_gpus(gpu(24, (7, 5)))
    found = plan({"training": {"precision": "bfloat16", "attention": "flash_attention_2"}}, hardware=old)
    messages = [item.message for item in found.findings if item.code == "plan.not_capable"]
    assert len(messages) == 2
    assert all("7.5" in message and "8.0" in message for message in messages)
    assert found.blocked
    very_old = plan({"method": {"name": "qlora"}}, hardware=with_gpus(gpu(24, (5, 2))))
    assert "6.0" in finding(very_old, "plan.not_capable").message
    assert option(plan(hardware=with_gpus(gpu(24, (5, 2)))), "QLoRA").verdict == "impossible"


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("version", [None, (5, 2), (7, 5), (9, 0)])
def test_every_capability_is_allowed_or_has_a_reason(capability: Any, kind: Any, version: Any) -> None:
    bare = Machine(num_gpus=int(kind == "cuda"), compute_capability=version)
    reason = reason_against(capability, Surroundings(Device(kind=kind), bare, tiny()))
    assert reason == "" or (reason[0] != " " and not reason.endswith("."))
    if capability in ("float32", "sdpa", "eager", "adamw", "single"):
        assert reason == ""
    if capability in ("compile", "8-bit", "4-bit", "flash_attention_2"):
        assert reason


def test_heads_that_are_too_wide_and_32_bit_arithmetic_rule_flash_attention_out() -> None:
    machine = Machine(num_gpus=1, compute_capability=(9, 0), libraries={"flash-attn": "2.8"})
    device = Device(kind="cuda")
    assert "512" in reason_against("flash_attention_2", Surroundings(device, machine, tiny(head_dim=512)))
    assert "16 bits" in reason_against("flash_attention_2", Surroundings(device, machine, tiny(), "float32"))
    assert reason_against("flash_attention_2", Surroundings(device, machine, tiny(), "bfloat16")) == ""


def estimate(found: Plan, low: float, expected: float, high: float, **changes: Any) -> MemoryEstimate:
    sizes = {"expected_bytes": int(expected * GIB), "low_bytes": int(low * GIB), "high_bytes": int(high * GIB)}
    update = {**sizes, "components": {"all of it": sizes["expected_bytes"]}, "depth": "simulated", **changes}
    return found.memory.model_copy(update=update)


def test_a_deeper_estimate_that_does_not_fit_blocks_and_brings_ways_that_are_scaled_up() -> None:
    found = plan({"method": {"name": "lora"}}, hardware=with_gpus(gpu(24)), model=hub_model("Qwen/Qwen3-4B"))
    assert not found.blocked
    deeper = with_memory(found, estimate(found, 24, 25, 26))
    assert deeper.blocked
    assert finding(deeper, "memory.does_not_fit")
    assert deeper.ways
    assert deeper.options[0].memory.depth == "simulated"
    assert deeper.options[0].why_not
    factor = 25 * GIB / found.memory.expected_bytes
    before, after = option(found, "QLoRA"), option(deeper, "QLoRA")
    if before.micro_batch == after.micro_batch:
        assert after.memory.expected_bytes == pytest.approx(before.memory.expected_bytes * factor, rel=0.01)
    assert all(way.memory.high_bytes <= 24 * GIB for way in deeper.ways)


def test_a_deeper_estimate_that_fits_lifts_the_block() -> None:
    found = plan({"training": {"max_length": 4096}}, hardware=with_gpus(gpu(4)), model=hub_model("Qwen/Qwen3-4B"))
    assert found.blocked
    deeper = with_memory(found, estimate(found, 3.0, 3.2, 3.5))
    assert not deeper.blocked
    assert deeper.ways == []
    assert with_memory(deeper, found.memory) == found


def test_the_reasons_name_the_memory_of_the_deeper_estimate() -> None:
    found = plan({}, hardware=with_gpus(gpu(24)), model=hub_model("Qwen/Qwen3-0.6B"))
    deeper = with_memory(found, estimate(found, 4.0, 4.2, 4.5))
    before, after = human_bytes(found.memory.expected_bytes), human_bytes(deeper.memory.expected_bytes)
    for path in ("method.name", "training.micro_batch"):
        assert before in found.sources[path].detail
        assert after in deeper.sources[path].detail
        assert before not in deeper.sources[path].detail


def test_rows_are_not_packed_where_an_encoder_reads_them() -> None:
    card = find_base_model("google/flan-t5-small")
    assert card is not None
    asked = {"objective": "text-to-text", "method": {"name": "lora"}}
    for model, packs in ((card.profile, False), (hub_model("Qwen/Qwen3-0.6B"), True)):
        titles = [row.title for row in plan(asked, hardware=CPU, model=model).options]
        assert any("packed" in title for title in titles) == packs


def test_thinking_a_plan_over_with_its_own_estimate_changes_nothing() -> None:
    for hardware in MACHINES.values():
        found = plan(hardware=hardware, model=hub_model("Qwen/Qwen3-1.7B"))
        assert with_memory(found, found.memory) == found


def test_a_range_around_the_free_memory_is_close_and_a_rehearsal_decides() -> None:
    found = plan({"method": {"name": "lora"}}, hardware=with_gpus(gpu(24)), model=hub_model("Qwen/Qwen3-4B"))
    close = with_memory(found, estimate(found, 22, 23, 25, depth="formula"))
    assert close.blocked
    assert "rehearsal decides" in finding(close, "memory.does_not_fit").fix
    sure = with_memory(found, estimate(found, 22, 23, 25))
    assert "rehearsal" not in finding(sure, "memory.does_not_fit").fix
    rows = [row for row in close.options if row.verdict == "tight"]
    assert all("rehearsal decides" in row.why_not for row in rows)


def test_what_was_measured_here_sets_the_rate_and_narrows_the_time() -> None:
    key = MachineKey(device="Card")
    hardware, model = with_gpus(gpu(24)), hub_model("Qwen/Qwen3-4B")
    assumed = plan(hardware=hardware, model=model)
    measured = plan(hardware=hardware, model=model, calibration=Calibration(key=key, flops={"bfloat16": 20e12}))
    assert assumed.time is not None
    assert measured.time is not None
    assert "not measured" in assumed.time.basis
    assert "measured rate of 20 TFLOP/s" in measured.time.basis
    assert measured.time.expected_s > assumed.time.expected_s
    assert measured.time.high_s / measured.time.low_s < assumed.time.high_s / assumed.time.low_s
    assert all(row.time_basis == measured.time.basis for row in measured.options)


def test_lengths_say_what_they_cover_and_cost() -> None:
    found = plan(hardware=with_gpus(gpu(80)), model=hub_model("Qwen/Qwen3-4B"))
    choices = {choice.max_length: choice for choice in found.lengths}
    assert list(choices) == sorted(choices)
    assert len(choices) <= 5
    planned = choices[found.recipe.training.max_length or 0]
    assert planned.memory_bytes == found.memory.expected_bytes
    assert planned.covered_share == pytest.approx(0.99, abs=0.005)
    whole = choices[704]
    assert whole.covered_share == 1
    assert whole.memory_bytes > planned.memory_bytes
    shares = [choice.covered_share for choice in found.lengths]
    assert shares == sorted(shares)
    assert plan(objective="domain-adaptation", data=TEXT).lengths == []
    assert max(choice.max_length for choice in plan(model=tiny(context_length=512)).lengths) == 512


def test_exact_counts_beat_the_quantiles() -> None:
    counted = LENGTHS.model_copy(update={"covered": [(128, 400), (256, 880), (512, 897), (700, 900)]})
    found = plan(data=DATA.model_copy(update={"lengths": counted}), hardware=with_gpus(gpu(80)), model=hub_model())
    shares = {choice.max_length: choice.covered_share for choice in found.lengths}
    assert shares[512] == pytest.approx(897 / 900)
    assert shares[256] == pytest.approx(880 / 900)


def test_ways_differ_in_kind_before_they_differ_in_size() -> None:
    you = {"method": {"name": "lora"}, "training": {"max_length": 4096}}
    found = plan(you, hardware=with_gpus(gpu(16)), model=hub_model())
    kinds = [frozenset(way.changes) for way in found.ways]
    assert len(set(kinds)) == 3
    assert found.ways[0].changes == {"method.name": "qlora"}


def test_ways_that_ask_for_more_than_another_only_fill_up_the_list() -> None:
    found = plan({"method": {"name": "full"}}, hardware=with_gpus(gpu(24)), model=hub_model("Qwen/Qwen3-4B"))
    changes = [way.changes.items() for way in found.ways]
    more = [place for place, one in enumerate(changes) if any(other < one for other in changes)]
    assert {"method.name": "lora"}.items() in changes
    assert len(more) < len(changes) == 3
    assert len({frozenset(way.changes) for way in found.ways}) == 3


def test_a_setting_that_only_costs_time_is_let_loose_first() -> None:
    you = {"method": {"name": "qlora"}, "training": {"micro_batch": 16, "activation_checkpointing": False}}
    found = plan(you, hardware=with_gpus(gpu(16)), model=hub_model("Qwen/Qwen3-4B"), data=DATA)
    longer = plan(
        {**you, "training": {**you["training"], "max_length": 2048}}, hardware=with_gpus(gpu(16)), model=hub_model()
    )
    assert longer.blocked
    assert set(longer.ways[0].changes) <= {"training.micro_batch", "training.activation_checkpointing"}
    assert "x" in longer.ways[0].price
    assert found.recipe.training.micro_batch == 16


def test_a_format_that_the_model_cannot_become_is_refused_before_the_run() -> None:
    wish = {"delivery": {"formats": ["gguf", "onnx"]}}
    llama = plan(wish, model=tiny(architecture="LlamaForCausalLM"))
    assert not llama.blocked
    opt = plan(wish, model=tiny(architecture="OPTForCausalLM"))
    refused = [item for item in opt.findings if item.code == "delivery.format_impossible"]
    assert len(refused) == 1
    assert "GGUF" in refused[0].message
    assert "ONNX would work" in refused[0].fix
    unmerged = plan({"method": {"name": "lora"}, "delivery": {"formats": ["gguf"], "merge": False}})
    assert "delivery.format_needs_merge" in codes(unmerged, "error")


def test_room_for_conversions_is_counted() -> None:
    roomy, model = with_gpus(gpu(80)), hub_model()
    usual = plan({"method": {"name": "lora"}}, hardware=roomy, model=model).disk
    wished = plan({"method": {"name": "lora"}, "delivery": {"formats": ["gguf"]}}, hardware=roomy, model=model).disk
    assert wished.total_bytes - usual.total_bytes == 2 * model.num_params


@pytest.mark.parametrize("machine", MACHINES)
def test_a_full_table_asks_the_formula_a_few_times_for_each_row(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*arguments: Any, **named: Any) -> MemoryEstimate:
        asked.append(arguments)
        return estimate_memory(*arguments, **named)

    monkeypatch.setattr("engine.planning.search.estimate_memory", counted)
    found = plan(hardware=MACHINES[machine], model=hub_model())
    # An estimate takes about 0.3 ms, and the table with its folded half has 100 ms.
    assert 5 < len(asked) < (300 if found.ways else 200), len(asked)


def test_every_method_can_be_asked_for_and_the_usual_ones_come_first() -> None:
    found = plan(hardware=with_gpus(gpu(24)), model=hub_model())
    assert {row.method for row in found.options} == set(METHOD_NAMES)
    folded = [row.folded for row in found.options]
    assert folded == sorted(folded)
    assert {row.method for row in found.options if row.folded} == set(METHOD_NAMES) - set(AUTOMATIC)
    for row in found.options:
        if row.folded and row.verdict == "fits":
            taken = plan(unflatten(row.changes), hardware=with_gpus(gpu(24)), model=hub_model())
            assert not taken.blocked, taken.findings
            assert taken.options[0].method == row.method
            assert not taken.options[0].folded


@pytest.mark.parametrize(
    ("asked", "method", "reason"),
    [
        ({"model": {"new_tokens": ["<a>"]}}, "ia3", "new_tokens"),
        ({"model": {"new_tokens": ["<a>"]}}, "lora-8bit", ""),
        ({"delivery": {"formats": ["gguf"]}}, "prompt-tuning", "cannot be merged"),
        ({"delivery": {"formats": ["gguf"]}}, "ia3", ""),
        ({"method": {"name": "lora", "variant": "pissa"}}, "qlora", "PiSSA"),
        ({"method": {"name": "lora", "variant": "dora"}}, "qlora", ""),
        ({"training": {"activation_checkpointing": True}}, "prefix-tuning", "recomputed"),
        ({"training": {"activation_checkpointing": True}}, "prompt-tuning", ""),
        ({"training": {"packing": True}}, "p-tuning", "behind one another"),
    ],
)
def test_a_method_that_the_recipe_rules_out_says_why(asked: Any, method: str, reason: str) -> None:
    found = plan(asked, hardware=with_gpus(gpu(24)), model=hub_model())
    row = next(row for row in found.options if row.method == method)
    assert (row.verdict == "impossible") is bool(reason)
    assert reason in row.why_not


def test_a_limit_above_the_longest_row_costs_no_memory() -> None:
    def needs(max_length: int, **training: Any) -> int:
        you = {"method": {"name": "lora"}, "training": {"max_length": max_length, "micro_batch": 2, **training}}
        return plan(you, hardware=with_gpus(gpu(80)), model=hub_model()).memory.expected_bytes

    longest = -(-LENGTHS.longest // 8) * 8
    assert needs(2 * longest) == needs(4 * longest) == needs(longest)
    assert needs(longest // 2) < needs(longest)
    assert needs(2 * longest, packing=True) > needs(longest, packing=True)
