"""Methods: what learns learns in float32, what is frozen stays as it was, targets that match nothing are errors."""

import pytest
import torch
from peft import PeftModel
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from engine.catalog.methods import METHOD_NAMES
from engine.methods.apply import METHODS, apply_method, trainable_summary
from engine.methods.targets import find_targets, linear_layers
from engine.models.loading import load_model
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from tests.engine.tiny_models import tiny_llama

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.arange(24).reshape(2, 12)


def recipe(
    name: str | None, folder="m", *, precision: str = "float32", checkpointing: bool = False, **method
) -> Recipe:
    return Recipe.model_validate(
        {
            "objective": "chat",
            "model": {"base": str(folder)},
            "method": {"name": name, **method},
            "data": {"source": "rows.jsonl"},
            "training": {"precision": precision, "activation_checkpointing": checkpointing},
        }
    )


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def prepared(name: str, folder, **options):
    chosen = recipe(name, folder, **options)
    return apply_method(load_model(chosen, "cpu", bits=chosen.method.facts.bits), chosen)


def train(model, steps: int = 3, *, autocast: bool = False) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("name", "precision"),
    [("full", "float32"), ("full", "bfloat16"), ("lora", "float32"), ("lora", "bfloat16"), ("qlora", "float32"),
     ("qlora", "bfloat16")],
)  # fmt: skip
def test_what_learns_moves_and_what_is_frozen_stays(tiny_model_folder, name, precision, checkpointing):
    model = prepared(name, tiny_model_folder, precision=precision, checkpointing=checkpointing)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    model.train()
    losses = train(model, autocast=precision == "bfloat16")
    assert losses[-1] < losses[0]
    for key, parameter in model.named_parameters():
        moved = not torch.equal(before[key], parameter)
        assert moved == parameter.requires_grad, key
        assert parameter.dtype == torch.float32 or not parameter.requires_grad


class TestSummary:
    def test_full(self, tiny_model_folder):
        model = prepared("full", tiny_model_folder)
        summary = trainable_summary(model)
        assert summary.trainable_params == summary.num_params == model.num_parameters()
        assert summary.share == 1.0

    @pytest.mark.parametrize("name", ["lora", "qlora"])
    def test_adapters_count_the_base_model_whole(self, tiny_model_folder, name):
        base = load_model(recipe("lora", tiny_model_folder), "cpu", bits=None).num_parameters()
        summary = trainable_summary(prepared(name, tiny_model_folder, rank=4))
        # 2 blocks, hidden 32, inner 64: four 32x32, two 32x64 and one 64x32 layer.
        assert summary.trainable_params == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))
        assert summary.num_params == base + summary.trainable_params
        assert summary.dtypes == ("float32",)


class TestLora:
    def test_settings_of_the_recipe_are_used(self):
        model = apply_method(tiny_llama(64), recipe("lora", rank=3, alpha=5.0, dropout=0.25, targets=["q_proj"]))
        assert isinstance(model, PeftModel)
        config = model.peft_config["default"]
        assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 5.0, 0.25)
        assert {key.split(".lora_")[0].rsplit(".", 1)[-1] for key in model.state_dict() if "lora_" in key} == {"q_proj"}

    def test_changes_nothing_before_training(self):
        base = tiny_llama(64)
        with torch.no_grad():
            expected = base(IDS).logits
            assert torch.equal(apply_method(base, recipe("lora"))(IDS).logits, expected)

    def test_dropout_is_off_and_alpha_twice_the_rank_by_default(self):
        config = apply_method(tiny_llama(64), recipe("lora", rank=8)).peft_config["default"]
        assert (config.lora_alpha, config.lora_dropout) == (16, 0.0)

    def test_other_families(self):
        model = apply_method(gpt2(), recipe("lora", rank=2))
        assert model.peft_config["default"].fan_in_fan_out
        assert trainable_summary(model).num_tensors == 2 * 2 * 4


class TestTargets:
    def test_all_linear_leaves_the_output_layer_out(self):
        untied = tiny_llama(64, tie_word_embeddings=False)
        assert set(find_targets(untied, "all-linear")) == set(LAYERS)
        assert not any("lm_head" in name for name in linear_layers(untied))

    def test_attention(self):
        assert set(find_targets(tiny_llama(64), "attention")) == {"q_proj", "k_proj", "v_proj", "o_proj"}

    def test_attention_where_names_are_shared(self):
        model = gpt2()
        targets = find_targets(model, "attention")
        adapted = [name for name in linear_layers(model) if any(name == t or name.endswith(f".{t}") for t in targets)]
        assert len(adapted) == 4
        assert all(".attn." in name for name in adapted)

    def test_names_and_paths(self):
        assert find_targets(tiny_llama(64), ["q_proj", "mlp.up_proj", "q_proj"]) == ["q_proj", "mlp.up_proj"]

    def test_name_that_matches_nothing_lists_the_candidates(self):
        with pytest.raises(ProblemError) as caught:
            apply_method(tiny_llama(64), recipe("lora", targets=["q_proj", "v_porj"]))
        problem = caught.value.problems[0]
        assert "'v_porj'" in problem.message
        assert "Did you mean v_proj?" in problem.fix
        assert all(name in problem.fix for name in LAYERS)
        assert problem.path == "method.targets"

    def test_empty_list(self):
        with pytest.raises(ProblemError, match="empty list"):
            find_targets(tiny_llama(64), [])

    def test_model_without_attention_names(self):
        with pytest.raises(ProblemError, match="attention"):
            find_targets(MambaForCausalLM(MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1)), "attention")


class TestRefusals:
    def test_qlora_needs_a_quantised_model(self):
        with pytest.raises(ProblemError, match="4 bits"):
            apply_method(tiny_llama(64), recipe("qlora"))

    def test_full_needs_float32(self):
        with pytest.raises(ProblemError, match="bfloat16, too narrow"):
            apply_method(tiny_llama(64).to(torch.bfloat16), recipe("full"))

    def test_method_must_be_known(self):
        with pytest.raises(ProblemError, match="names no method"):
            apply_method(tiny_llama(64), recipe(None))

    def test_one_module_for_each_method(self):
        assert set(METHODS) == set(METHOD_NAMES)


def tiny_mamba() -> MambaForCausalLM:
    return MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, state_size=4, num_hidden_layers=2))


def test_adapters_reach_every_layer_of_a_state_space_model_that_its_kernels_do_not_read_themselves():
    adapted = apply_method(tiny_mamba(), recipe("lora"))
    assert adapted.peft_config["default"].target_modules == {"in_proj", "x_proj", "dt_proj"}
    losses = train(adapted)
    assert losses[-1] < losses[0]


def test_a_layer_that_takes_no_adapter_is_a_problem_with_a_way_out():
    with pytest.raises(ProblemError) as caught:
        apply_method(tiny_mamba(), recipe("lora", targets=["in_proj", "out_proj"]))
    (problem,) = caught.value.problems
    assert (problem.code, problem.path) == ("method.refused_target", "method.targets")
    assert "out_proj" in problem.message
    assert "all-linear" in problem.fix


@pytest.mark.parametrize(
    ("name", "words"), [("qlora", "QLoRA needs .* 4 bits"), ("lora-8bit", "8-bit LoRA needs .* 8")]
)
def test_a_base_model_that_is_not_quantised_is_refused(name, words):
    with pytest.raises(ProblemError, match=words) as caught:
        apply_method(tiny_llama(64), recipe(name, rank=4, alpha=8.0, dropout=0.0, targets="all-linear"))
    assert caught.value.problems[0].code == "method.not_quantized"
