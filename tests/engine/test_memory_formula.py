"""The memory formula against real training on the processor, and against rehearsals of real models."""

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from engine.catalog.base_models import find_base_model
from engine.evaluation.generation import generation_share
from engine.planning.case import setup_of as setup_of_plan
from engine.planning.depth import depth_of
from engine.planning.memory import Setup, estimate_memory, memory_components
from engine.planning.memory_phases import generation_share as rule
from engine.planning.memory_phases import phase_peaks, size_of
from engine.planning.model_profile import profile_folder
from engine.planning.plan import Device
from engine.recipe.sources import flatten
from engine.rehearsal.run import rehearse
from tests.engine.made_plan import made_plan
from tests.engine.measured_training import length_profile, measured_training_peak, plan_of, save_model

TOLERANCE = {"gpt_neox": 0.12, "gpt2": 0.12}
USUAL_TOLERANCE = 0.08
"""Tiny models: tensors that do not grow with the model, such as positions, weigh more than in real ones."""
SIZES = {
    "vocab_size": 768,
    "hidden_size": 192,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "qwen3": {"head_dim": 32, "tie_word_embeddings": True},
    "gemma": {"head_dim": 32},
    "gpt_neox": {},
    "gpt2": {"n_embd": 192, "n_inner": 640, "n_layer": 6, "n_head": 6, "n_positions": 512},
}
CASES = [
    ("llama", "lora", "float32", False, 1),
    ("llama", "full", "float32", True, 2),
    ("llama", "full", "bfloat16", False, 1),
    ("llama", "qlora", "bfloat16", True, 2),
    ("qwen3", "full", "float32", False, 2),
    ("qwen3", "lora", "bfloat16", True, 1),
    ("gemma", "lora", "float32", False, 2),
    ("gpt_neox", "lora", "bfloat16", False, 1),
    ("gpt2", "full", "float32", False, 1),
    ("llama", "bottleneck", "float32", False, 1),
    ("qwen3", "bottleneck", "bfloat16", False, 2),
    ("llama", "feature-extraction", "float32", False, 2),
    ("qwen3", "feature-extraction", "bfloat16", False, 1),
    ("gpt_neox", "feature-extraction", "bfloat16", False, 1),
]


def setup_of(plan, **changes):
    recipe = plan.recipe
    return Setup(
        device=plan.device.kind,
        method=recipe.method.name,
        precision=recipe.training.precision,
        micro_batch=plan.steps.micro_batch,
        max_length=recipe.training.max_length,
        activation_checkpointing=bool(recipe.training.activation_checkpointing),
        accumulates=plan.steps.accumulation > 1,
        depth=depth_of(flatten(recipe.model_dump(mode="json")), plan.model),
        **changes,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that gives the folder of a tiny model of a family, made once."""
    made = {}

    def folder(family):
        if family not in made:
            sizes = FAMILIES[family] if family == "gpt2" else SIZES | FAMILIES[family]
            if family == "gpt_neox":
                sizes = {key: value for key, value in sizes.items() if key != "num_key_value_heads"}
            shared = {key: SIZES[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
            config = AutoConfig.for_model(family, **(shared | sizes))
            made[family] = save_model(tmp_path_factory.mktemp(family), config)
        return made[family]

    return folder


@pytest.mark.parametrize(("family", "method", "precision", "checkpointing", "accumulation"), CASES)
def test_the_formula_meets_what_training_took(folders, family, method, precision, checkpointing, accumulation):
    training = {"precision": precision, "activation_checkpointing": checkpointing}
    plan = plan_of(
        folders(family), method=method, micro_batch=4, accumulation=accumulation, longest=192, training=training
    )
    measured = measured_training_peak(plan)
    setup = setup_of(plan, rank=plan.recipe.method.rank or 16)
    counted = sum(memory_components(plan.model, setup).values())
    assert counted == pytest.approx(measured, rel=TOLERANCE.get(family, USUAL_TOLERANCE)), (
        family,
        method,
        precision,
        counted,
        measured,
    )
    estimate = estimate_memory(plan.model, setup, available_bytes=None, where="host RAM")
    assert estimate.low_bytes <= measured + estimate.components["process"] <= estimate.high_bytes


def test_the_folders_of_the_cases_are_counted_exactly(folders):
    for family in FAMILIES:
        assert profile_folder(folders(family), base="x").counted


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("checkpointing", [False, True])
def test_generation_is_sized_as_evaluation_sizes_it(folders, family, checkpointing):
    folder = folders(family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    chosen = Setup("cuda", "lora", "bfloat16", 1, 64, activation_checkpointing=checkpointing)
    assert rule(profile_folder(folder, base="x"), chosen) == generation_share(
        model, activation_checkpointing=checkpointing
    )


REHEARSED = [
    ("Qwen/Qwen3-0.6B", "qlora", 4, True),
    ("meta-llama/Llama-3.2-1B-Instruct", "full", 1, False),
    # A rehearsal of 7 billion weights takes most of a minute here.
    pytest.param("mistralai/Mistral-7B-Instruct-v0.3", "lora", 1, True, marks=pytest.mark.slow),
    ("Qwen/Qwen3-0.6B", "bottleneck", 4, False),
    pytest.param("mistralai/Mistral-7B-Instruct-v0.3", "feature-extraction", 1, False, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "method", "micro_batch", "checkpointing"), REHEARSED)
def test_the_formula_meets_the_rehearsal_of_real_models_on_a_gpu(name, method, micro_batch, checkpointing):
    plan = plan_of_real_model(name, method, micro_batch, checkpointing)
    rehearsed = rehearse(plan, "key").peaks["training"]
    setup = setup_of(plan, rank=plan.recipe.method.rank or 16)
    assert sum(memory_components(plan.model, setup).values()) == pytest.approx(rehearsed, rel=0.04)


def plan_of_real_model(name, method, micro_batch, checkpointing, **recipe):
    """Return a plan of a real model, of which only the facts are here, on a GPU that is not."""
    training = {
        "precision": "bfloat16",
        "activation_checkpointing": checkpointing,
        "micro_batch": micro_batch,
        "effective_batch": 2 * micro_batch,
        "max_length": 1024,
    }
    plan = made_plan(name, method=method, recipe={"training": training, **recipe})
    steps = plan.steps.model_copy(update={"micro_batch": micro_batch, "accumulation": 2})
    data = plan.data.model_copy(update={"lengths": length_profile(1024)})
    model = find_base_model(name).profile
    return plan.model_copy(update={"steps": steps, "data": data, "model": model, "device": Device(kind="cuda")})


NEW_TOKENS = {"new_tokens": ["<lamp>", "<door>"]}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("tied", "method", "precision"),
    [
        (True, "lora", "float32"),
        (False, "lora", "float32"),
        (True, "lora", "bfloat16"),
        (False, "qlora", "bfloat16"),
    ],
)
def test_rows_of_new_tokens_take_copies_of_the_whole_matrix(tmp_path, tied, method, precision, checkpointing):
    config = AutoConfig.for_model("llama", **SIZES | {"vocab_size": 8000, "tie_word_embeddings": tied})
    training = {"precision": precision, "activation_checkpointing": checkpointing}
    plan = plan_of(save_model(tmp_path, config), method=method, longest=64, training=training, model=NEW_TOKENS)
    measured = measured_training_peak(plan)
    setup = setup_of_plan(plan)
    assert sum(memory_components(plan.model, setup).values()) == pytest.approx(measured, rel=0.03)
    without = sum(memory_components(plan.model, setup.changed(new_tokens=0)).values())
    assert without < 0.95 * measured


WITH_TOKENS = [
    ("Qwen/Qwen3-0.6B", "qlora", 4, True),
    ("meta-llama/Llama-3.2-1B-Instruct", "lora", 1, True),
    ("mistralai/Mistral-7B-Instruct-v0.3", "qlora", 1, True),
]


@pytest.mark.parametrize(("name", "method", "micro_batch", "checkpointing"), WITH_TOKENS)
def test_new_tokens_are_met_on_a_gpu_where_the_output_layer_gets_a_gradient(name, method, micro_batch, checkpointing):
    plan = plan_of_real_model(name, method, micro_batch, checkpointing, model=NEW_TOKENS)
    rehearsed = rehearse(plan, "key").peaks
    setup = setup_of_plan(plan)
    counted = {phase: size_of(peak) for phase, peak in phase_peaks(plan.model, setup).items()}
    assert counted["training"] == pytest.approx(rehearsed["training"], rel=0.02)
    assert counted["evaluation"] == pytest.approx(rehearsed["evaluation"], rel=0.08)
    without = size_of(phase_peaks(plan.model, setup.changed(new_tokens=0))["training"])
    assert without < 0.9 * rehearsed["training"]
