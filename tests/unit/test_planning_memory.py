"""What the memory formula promises whatever its numbers: phases, ranges, sharing, and a sentence for every doubt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.catalog.base_models import find_base_model
from engine.planning.architectures import read_architecture
from engine.planning.calibration import Calibration, MachineKey
from engine.planning.memory import Setup, estimate_memory, memory_components
from engine.planning.model_folder import describe
from engine.planning.plan import MemoryEstimate
from engine.planning.profiles import ModelProfile

GIB = 2**30


def catalogue(name: str = "Qwen/Qwen3-0.6B") -> ModelProfile:
    card = find_base_model(name)
    assert card is not None
    return card.profile


def setup(**changes: Any) -> Setup:
    base: dict[str, Any] = {"device": "cuda", "method": "lora", "precision": "bfloat16"}
    return Setup(**{**base, "micro_batch": 2, "max_length": 512, **changes})


def estimate(chosen: Setup, model: ModelProfile | None = None, **more: Any) -> MemoryEstimate:
    given: dict[str, Any] = {"available_bytes": 24 * GIB, "where": "GPU 0", **more}
    return estimate_memory(model or catalogue(), chosen, **given)


SETUPS = st.builds(
    setup,
    device=st.sampled_from(["cuda", "cpu"]),
    method=st.sampled_from(["full", "lora", "qlora"]),
    precision=st.sampled_from(["float32", "bfloat16"]),
    micro_batch=st.sampled_from([1, 2, 8]),
    max_length=st.sampled_from([64, 512, 4096]),
    optimizer=st.sampled_from(["adamw", "adamw_8bit", "paged_adamw_8bit"]),
    activation_checkpointing=st.booleans(),
    packed=st.booleans(),
    accumulates=st.booleans(),
    attention=st.sampled_from(["sdpa", "eager", "flash_attention_2"]),
    generate=st.sampled_from([0, 64]),
    merge=st.booleans(),
    targets=st.sampled_from(["all-linear", "attention", ["q_proj"]]),
)


@given(chosen=SETUPS)
def test_an_estimate_adds_up_and_lies_in_its_range(chosen: Setup) -> None:
    found = estimate(chosen)
    assert found.expected_bytes == sum(found.components.values())
    assert all(size >= 0 for size in found.components.values())
    assert 0 < found.low_bytes <= found.expected_bytes <= found.high_bytes
    assert found.allocated_bytes == max(found.peaks.values())
    assert {"training", "evaluation", "saving"} <= set(found.peaks)
    assert found.depth == "formula"


@given(chosen=SETUPS)
def test_more_of_anything_never_needs_less(chosen: Setup) -> None:
    least = estimate(chosen).high_bytes
    for changes in (
        {"micro_batch": 2 * chosen.micro_batch},
        {"max_length": 2 * chosen.max_length},
        {"rank": 2 * chosen.rank},
        {"accumulates": True},
    ):
        assert estimate(chosen.changed(**changes)).high_bytes >= least


def test_recomputing_narrower_weights_and_smaller_states_save_memory() -> None:
    full = setup(method="full", max_length=2048)
    assert estimate(full.changed(activation_checkpointing=True)).expected_bytes < estimate(full).expected_bytes
    assert estimate(full.changed(optimizer="adamw_8bit")).expected_bytes < estimate(full).expected_bytes
    lora = setup(max_length=2048)
    assert estimate(lora.changed(method="qlora")).expected_bytes < estimate(lora).expected_bytes
    assert estimate(lora).expected_bytes < estimate(lora.changed(attention="eager")).expected_bytes


def test_phases_are_maxed_and_never_summed() -> None:
    small = setup(method="qlora", micro_batch=1, max_length=64, merge=True, device="cpu", precision="bfloat16")
    found = estimate(small, catalogue("Qwen/Qwen3-4B"))
    assert max(found.peaks, key=lambda name: found.peaks[name]) == "merging"
    assert found.allocated_bytes == found.peaks["merging"]
    assert found.peaks["merging"] > 2 * catalogue("Qwen/Qwen3-4B").num_params


def test_a_second_base_model_goes_to_the_host_where_the_gpu_has_no_room() -> None:
    chosen = setup(method="qlora", merge=True)
    model = catalogue("Qwen/Qwen3-8B")
    tight, roomy = estimate(chosen, model), estimate(chosen, model, available_bytes=80 * GIB)
    assert "merging" not in tight.peaks
    assert any("host memory" in note for note in tight.notes)
    assert "merging" in roomy.peaks


def test_long_answers_to_many_prompts_can_be_the_peak() -> None:
    chosen = setup(method="qlora", activation_checkpointing=True, micro_batch=1, max_length=1024, generate=8192)
    assert estimate(chosen, catalogue("Qwen/Qwen2.5-0.5B-Instruct")).peaks["evaluation"] > 0
    without = estimate(chosen.changed(generate=0))
    assert estimate(chosen).peaks["evaluation"] > without.peaks["evaluation"]


def test_gpus_that_share_weights_need_less_each_and_say_that_nobody_measured() -> None:
    model, alone = catalogue("Qwen/Qwen3-4B"), setup(method="full", max_length=512)
    whole = estimate(alone, model)
    for strategy, compare in (("fsdp", "less"), ("zero3", "less"), ("ddp", "more")):
        shared = estimate(alone.changed(num_gpus=4, strategy=strategy), model)
        assert (shared.expected_bytes < whole.expected_bytes) is (compare == "less")
        assert shared.confidence == "low"
        assert any("never measured" in note for note in shared.notes)


def test_measurements_move_and_narrow_the_range() -> None:
    key = MachineKey(device="GPU")
    plain = estimate(setup())
    measured = estimate(setup(), calibration=Calibration(key=key, context_bytes=500 * 2**20))
    assert measured.components["CUDA context"] == 500 * 2**20
    assert measured.high_bytes < plain.high_bytes
    higher = Calibration(key=key, memory_ratios=[1.2] * 5)
    assert estimate(setup(), calibration=higher).high_bytes > plain.high_bytes


def test_an_unknown_architecture_says_so_and_gets_a_wide_range() -> None:
    known = catalogue()
    unknown = known.model_copy(update={"model_type": "novelty", "counted": False})
    found, usual = estimate(setup(), unknown), estimate(setup(), known)
    assert (found.confidence, usual.confidence) == ("low", "normal")
    assert any("novelty" in note for note in found.notes)
    assert found.high_bytes - found.low_bytes > usual.high_bytes - usual.low_bytes


def test_experts_stay_whole_under_qlora() -> None:
    config = {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "vocab_size": 151936,
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    }
    model = describe(read_architecture(config), base="made/moe")
    found = estimate(setup(method="qlora"), model)
    assert found.components["model weights"] > 2 * model.expert_params
    assert any("128 experts" in note for note in found.notes)
    assert any("16 bits" in note for note in found.notes)


@pytest.mark.parametrize("window", [0, 128])
def test_a_window_narrower_than_the_sequence_costs_a_mask(window: int) -> None:
    model = catalogue().model_copy(update={"sliding_window": window, "windowed_layers": 14 if window else 0})
    alone = setup(micro_batch=1, max_length=1024)
    plain = memory_components(catalogue(), alone)["activations"]
    assert (memory_components(model, alone)["activations"] > plain) is bool(window)
